/* The HTTP exporter, through metrics_serve: what it serves, which options it takes, and that it ends with its
 * handle, with its backend and with its process. It is scraped over plain sockets.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include <valgrind/valgrind.h>

#include "declare.h"
#include "redis_server.h"

static RedisServer redis;

static MetricsServeOptions serve_options(void) {
  MetricsServeOptions options;
  memset(&options, 0, sizeof options);
  options.size = sizeof options;
  return options;
}

static MetricsServer *serve(const Backend *backend, const MetricsServeOptions *options) {
  MetricsServer *server = NULL;
  CHECK_OK(metrics_serve(backend, options, &server, &error));
  CHECK(server != NULL);
  return server;
}

/* A backend with one counter, at 3. */
static Backend *open_counted(const char *url) {
  Backend *backend = open_backend(url);
  MetricFamily *family = declare_plain(backend, METRIC_TYPE_COUNTER, "requests_total");
  Metric *metric = make_metric(family, NULL);
  CHECK_STATUS(BACKEND_STATUS_OK, metric_inc(metric, 3));
  metric_free(metric);
  metric_family_free(family);
  return backend;
}

/* -1 if nobody listens. */
static int try_connect(uint16_t port) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (client < 0) check_give_up("socket");
  /* A bound against hangs, not a measure. */
  struct timeval patience = {.tv_sec = 60, .tv_usec = 0};
  setsockopt(client, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  if (connect(client, (struct sockaddr *)&address, sizeof address) == 0) return client;
  close(client);
  return -1;
}

/* Sends a request and reads until the connection ends; the next call overwrites the answer. */
static const char *ask(uint16_t port, const char *request) {
  static char answer[65536];
  size_t length = 0;
  ssize_t count = 0;
  int client = try_connect(port);
  CHECK(client >= 0);
  CHECK(send(client, request, strlen(request), MSG_NOSIGNAL) == (ssize_t)strlen(request));
  while ((count = recv(client, answer + length, sizeof answer - 1 - length, 0)) > 0) length += (size_t)count;
  answer[length] = '\0';
  close(client);
  return answer;
}

static const char *get(uint16_t port, const char *path) {
  char request[128];
  snprintf(request, sizeof request, "GET %s HTTP/1.0\r\n\r\n", path);
  return ask(port, request);
}

static const char *const METRICS =
    "\r\n\r\n# HELP requests_total Help.\n# TYPE requests_total counter\nrequests_total 3\n";

static pid_t fork_child(void) {
  fflush(stderr);
  pid_t child = fork();
  if (child < 0) check_give_up("fork");
  if (child > 0) return child;
  atomic_store(&check_failures, 0);
  /* The parent's threads, and what is theirs, are left alone on purpose. */
  VALGRIND_CLO_CHANGE("--leak-check=no");
  return child;
}

static void wait_for(pid_t child) {
  int status = -1;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void metrics_are_served_at_a_free_port_of_loopback(void) {
  Backend *backend = open_counted("memory:");
  MetricsServer *server = serve(backend, NULL);
  uint16_t port = metrics_server_port(server);
  CHECK(port != 0);
  char expected[32];
  snprintf(expected, sizeof expected, "127.0.0.1:%d", port);
  CHECK_TEXT(expected, metrics_server_address(server));
  CHECK_CONTAINS("HTTP/1.0 200 OK\r\n", get(port, "/metrics"));
  CHECK_CONTAINS("content-type: text/plain; version=0.0.4; charset=utf-8\r\n", get(port, "/metrics"));
  CHECK_CONTAINS(METRICS, get(port, "/metrics"));
  CHECK_CONTAINS("\r\n\r\nok\n", get(port, "/-/healthy"));
  CHECK_CONTAINS("<a href=\"/metrics\">", get(port, "/"));
  CHECK_CONTAINS("HTTP/1.0 404 Not Found\r\n", get(port, "/nowhere"));
  CHECK_CONTAINS("\r\nallow: GET, HEAD\r\n", ask(port, "POST /metrics HTTP/1.0\r\n\r\n"));
  CHECK_CONTAINS("\n# EOF\n",
                 ask(port, "GET /metrics HTTP/1.0\r\nAccept: application/openmetrics-text;version=1.0.0\r\n\r\n"));
  metrics_server_free(server);
  CHECK(try_connect(port) < 0);
  backend_free(backend);
}

static void options_are_used_or_refused(void) {
  Backend *backend = open_counted("memory:");
  MetricsServeOptions options = serve_options();
  options.address = "0.0.0.0";
  options.name_prefix = "shop";
  options.max_connections = 1;
  options.read_timeout = 3;
  options.write_timeout = 1;
  MetricsServer *server = serve(backend, &options);
  uint16_t port = metrics_server_port(server);
  CHECK_CONTAINS("\nshop_requests_total 3\n", get(port, "/metrics"));
  /* Silent, and the only one that there is room for: it is cut off. */
  int silent = try_connect(port);
  CHECK(silent >= 0);
  CHECK_CONTAINS("\r\n\r\nok\n", get(port, "/-/healthy"));
  close(silent);

  /* The port that is taken, by all addresses. */
  MetricsServer *another = NULL;
  options = serve_options();
  options.port = port;
  char taken[64];
  snprintf(taken, sizeof taken, "127.0.0.1:%d: Address already in use", port);
  CHECK_ERROR(BACKEND_STATUS_UNAVAILABLE, taken, metrics_serve(backend, &options, &another, &error));
  metrics_server_free(server);

  options = serve_options();
  options.address = "example.org";
  CHECK_ERROR(BACKEND_STATUS_INVALID_ARGUMENT, "\"example.org\": expected an IPv4 or IPv6 address",
              metrics_serve(backend, &options, &another, &error));
  options.address = "\xff";
  CHECK_ERROR(BACKEND_STATUS_INVALID_ARGUMENT, "options->address is",
              metrics_serve(backend, &options, &another, &error));
  options = serve_options();
  options.name_prefix = "\xff";
  CHECK_ERROR(BACKEND_STATUS_INVALID_ARGUMENT, "options->name_prefix is",
              metrics_serve(backend, &options, &another, &error));
  const double bad[] = {-1, NAN, INFINITY, 1e300, 1e-300};
  for (int index = 0; index < 5; index++) {
    options = serve_options();
    options.read_timeout = bad[index];
    CHECK_ERROR(BACKEND_STATUS_INVALID_ARGUMENT, "read_timeout is", metrics_serve(backend, &options, &another, &error));
    options = serve_options();
    options.write_timeout = bad[index];
    CHECK_ERROR(BACKEND_STATUS_INVALID_ARGUMENT, "write_timeout is", metrics_serve(backend, &options, &another, &error));
  }
  CHECK(another == NULL);
  backend_free(backend);
}

static void programs_may_be_older_or_newer(void) {
  Backend *backend = open_counted("memory:");
  struct {
    MetricsServeOptions known;
    char additional[16];
  } newer;
  memset(&newer, 0, sizeof newer);
  newer.known.size = sizeof newer;
  metrics_server_free(serve(backend, &newer.known));
  MetricsServer *server = NULL;
  newer.additional[3] = 1;
  CHECK_ERROR(BACKEND_STATUS_INVALID_ARGUMENT, "fields that this version of the library does not know",
              metrics_serve(backend, &newer.known, &server, &error));
  const size_t sizes[] = {0, sizeof(size_t), sizeof newer + 4096};
  for (int index = 0; index < 3; index++) {
    MetricsServeOptions options = serve_options();
    options.size = sizes[index];
    CHECK_ERROR(BACKEND_STATUS_INVALID_ARGUMENT, "sizeof(MetricsServeOptions)",
                metrics_serve(backend, &options, &server, &error));
  }
  CHECK(server == NULL);
  backend_free(backend);
}

static void null_pointers_are_refused(void) {
  Backend *backend = open_counted("memory:");
  MetricsServer *server = NULL;
  CHECK_ERROR(BACKEND_STATUS_NULL_POINTER, "backend is NULL", metrics_serve(NULL, NULL, &server, &error));
  CHECK_ERROR(BACKEND_STATUS_NULL_POINTER, "server is NULL", metrics_serve(backend, NULL, NULL, &error));
  CHECK_STATUS(BACKEND_STATUS_NULL_POINTER, metrics_serve(backend, NULL, NULL, NULL));
  CHECK(metrics_server_port(NULL) == 0);
  CHECK(metrics_server_address(NULL) == NULL);
  metrics_server_free(NULL);
  backend_free(backend);
}

/* In either order. */
static void a_freed_backend_is_unavailable(void) {
  const char *const urls[] = {"memory:", "memory:?cell=mutex", redis.url};
  for (int index = 0; index < 3; index++) {
    Backend *backend = open_counted(urls[index]);
    MetricsServer *server = serve(backend, NULL);
    uint16_t port = metrics_server_port(server);
    CHECK_CONTAINS(METRICS, get(port, "/metrics"));
    backend_free(backend);
    CHECK_CONTAINS("HTTP/1.0 503 Service Unavailable\r\n", get(port, "/metrics"));
    CHECK_CONTAINS("\r\n\r\nthe backend is closed\n", get(port, "/metrics"));
    CHECK_CONTAINS("\r\n\r\nok\n", get(port, "/-/healthy"));
    metrics_server_free(server);
  }
}

static void a_lost_server_is_unavailable(void) {
  char url[160], reply[64];
  redis_server_ask(&redis, reply, sizeof reply, "FLUSHALL", (char *)NULL);
  snprintf(url, sizeof url, "%s?connect_timeout=2&shutdown_timeout=0.1", redis.url);
  Backend *backend = open_counted(url);
  MetricsServer *server = serve(backend, NULL);
  uint16_t port = metrics_server_port(server);
  CHECK_CONTAINS(METRICS, get(port, "/metrics"));
  redis_server_kill(&redis);
  CHECK_CONTAINS("HTTP/1.0 503 Service Unavailable\r\n", get(port, "/metrics"));
  CHECK_CONTAINS("\r\n\r\nok\n", get(port, "/-/healthy"));
  redis_server_restart(&redis);
  while (strstr(get(port, "/metrics"), "HTTP/1.0 200 OK\r\n") == NULL) check_pause();
  metrics_server_free(server);
  backend_free(backend);
}

static void a_child_has_no_server_but_may_start_one(void) {
  Backend *backend = open_counted("memory:");
  MetricsServer *server = serve(backend, NULL);
  uint16_t port = metrics_server_port(server);
  pid_t child = fork_child();
  if (child == 0) {
    CHECK(metrics_server_port(server) == port);
    metrics_server_free(server);
    MetricsServer *own = serve(backend, NULL);
    CHECK(metrics_server_port(own) != port);
    CHECK_CONTAINS(METRICS, get(metrics_server_port(own), "/metrics"));
    CHECK_CONTAINS(METRICS, get(port, "/metrics"));
    metrics_server_free(own);
    _exit(check_result());
  }
  wait_for(child);
  CHECK_CONTAINS(METRICS, get(port, "/metrics"));
  metrics_server_free(server);
  backend_free(backend);
}

/* As a program does that returns from main without freeing anything, with a client that waits for a store
 * which does not answer. */
static void a_process_that_exits_during_a_scrape_ends_well(void) {
  pid_t child = fork_child();
  if (child == 0) {
    char url[160];
    snprintf(url, sizeof url, "%s?collect_timeout=600&socket_timeout=600&shutdown_timeout=0.5", redis.url);
    Backend *backend = open_counted(url);
    CHECK_OK(backend_flush(backend, 30.0, &error));
    MetricsServer *server = serve(backend, NULL);
    uint16_t port = metrics_server_port(server);
    CHECK_CONTAINS("HTTP/1.0 200 OK\r\n", get(port, "/metrics"));
    redis_server_pause(&redis);
    int client = try_connect(port);
    const char *request = "GET /metrics HTTP/1.0\r\n\r\n";
    CHECK(send(client, request, strlen(request), 0) == (ssize_t)strlen(request));
    CHECK_CONTAINS("\r\n\r\nok\n", get(port, "/-/healthy"));
    exit(check_result());
  }
  wait_for(child);
  redis_server_resume(&redis);
}

static void closing_all_backends_ends_the_servers(void) {
  pid_t child = fork_child();
  if (child == 0) {
    Backend *backend = open_counted("memory:");
    MetricsServer *first = serve(backend, NULL);
    MetricsServer *second = serve(backend, NULL);
    backend_close_all();
    CHECK(try_connect(metrics_server_port(first)) < 0);
    CHECK(try_connect(metrics_server_port(second)) < 0);
    metrics_server_free(first);
    metrics_server_free(second);
    backend_free(backend);
    _exit(check_result());
  }
  wait_for(child);
}

int main(void) {
  redis_server_start(&redis);
  CHECK_STATUS(BACKEND_STATUS_OK, backend_log_queue(BACKEND_LOG_LEVEL_WARNING));
  CHECK_RUN(metrics_are_served_at_a_free_port_of_loopback);
  CHECK_RUN(options_are_used_or_refused);
  CHECK_RUN(programs_may_be_older_or_newer);
  CHECK_RUN(null_pointers_are_refused);
  CHECK_RUN(a_freed_backend_is_unavailable);
  CHECK_RUN(a_lost_server_is_unavailable);
  CHECK_RUN(a_child_has_no_server_but_may_start_one);
  CHECK_RUN(a_process_that_exits_during_a_scrape_ends_well);
  CHECK_RUN(closing_all_backends_ends_the_servers);
  redis_server_stop(&redis);
  return check_result();
}

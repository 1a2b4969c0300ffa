/* The HTTP exporter through metrics_serve: its options, its answers and the end of its handle. Connections, forks
 * and lost stores are tested in Rust (tests/exporter*.rs).
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "declare.h"

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

/* Opens a backend whose only counter is at 3. */
static Backend *open_counted(void) {
  Backend *backend = open_backend("memory:");
  MetricFamily *family = declare_plain(backend, METRIC_TYPE_COUNTER, "requests_total");
  Metric *metric = make_metric(family, NULL);
  CHECK_STATUS(BACKEND_STATUS_OK, metric_inc(metric, 3));
  metric_free(metric);
  metric_family_free(family);
  return backend;
}

/* Returns a connection to a port of loopback, or -1 if the port refuses it. */
static int try_connect(uint16_t port) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (client < 0) check_give_up("socket");
  /* Turns a hang into a failure. */
  struct timeval patience = {.tv_sec = 60, .tv_usec = 0};
  setsockopt(client, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  if (connect(client, (struct sockaddr *)&address, sizeof address) == 0) return client;
  close(client);
  return -1;
}

/* Sends a request and reads until the connection ends. The next call overwrites the answer. */
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

static void metrics_are_served_at_a_free_port_of_loopback(void) {
  Backend *backend = open_counted();
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
  Backend *backend = open_counted();
  MetricsServeOptions options = serve_options();
  options.address = "0.0.0.0";
  options.name_prefix = "shop";
  options.max_connections = 1;
  options.read_timeout = 3;
  options.write_timeout = 1;
  MetricsServer *server = serve(backend, &options);
  uint16_t port = metrics_server_port(server);
  CHECK_CONTAINS("\nshop_requests_total 3\n", get(port, "/metrics"));
  /* A silent client takes the only connection. The exporter closes it to answer another client. */
  int silent = try_connect(port);
  CHECK(silent >= 0);
  CHECK_CONTAINS("\r\n\r\nok\n", get(port, "/-/healthy"));
  close(silent);

  /* The server listens at all addresses, so the port is taken. */
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
  options = serve_options();
  options.created_samples = -1;
  CHECK_ERROR(BACKEND_STATUS_INVALID_ARGUMENT, "options->created_samples is -1",
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

static void options_of_a_newer_program_are_read(void) {
  Backend *backend = open_counted();
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

static void a_freed_backend_is_unavailable(void) {
  Backend *backend = open_counted();
  MetricsServer *server = serve(backend, NULL);
  uint16_t port = metrics_server_port(server);
  CHECK_CONTAINS(METRICS, get(port, "/metrics"));
  backend_free(backend);
  CHECK_CONTAINS("HTTP/1.0 503 Service Unavailable\r\n", get(port, "/metrics"));
  CHECK_CONTAINS("\r\n\r\nthe backend is closed\n", get(port, "/metrics"));
  metrics_server_free(server);
}

static void null_pointers_are_refused(void) {
  Backend *backend = open_counted();
  MetricsServer *server = NULL;
  CHECK_ERROR(BACKEND_STATUS_NULL_POINTER, "backend is NULL", metrics_serve(NULL, NULL, &server, &error));
  CHECK_ERROR(BACKEND_STATUS_NULL_POINTER, "server is NULL", metrics_serve(backend, NULL, NULL, &error));
  CHECK_STATUS(BACKEND_STATUS_NULL_POINTER, metrics_serve(backend, NULL, NULL, NULL));
  CHECK(metrics_server_port(NULL) == 0);
  CHECK(metrics_server_address(NULL) == NULL);
  metrics_server_free(NULL);
  backend_free(backend);
}

static void collect_one(MetricsForeign *foreign, void *user_data) {
  (void)user_data;
  MetricsForeignFamily family = {.size = sizeof family, .name = "computed", .metric_type = METRIC_TYPE_GAUGE};
  MetricsForeignSample sample = {.size = sizeof sample, .value = 1};
  CHECK_OK(metrics_foreign_family(foreign, &family, &error));
  CHECK_OK(metrics_foreign_sample(foreign, &sample, &error));
}

static void computed_metrics_are_served(void) {
  Backend *backend = open_counted();
  CHECK_OK(metrics_collect_callback(backend, collect_one, NULL, &error));
  MetricsServer *server = serve(backend, NULL);
  CHECK_CONTAINS("\ncomputed 1\n", get(metrics_server_port(server), "/metrics"));
  metrics_server_free(server);
  backend_free(backend);
}

int main(void) {
  CHECK_STATUS(BACKEND_STATUS_OK, backend_log_queue(BACKEND_LOG_LEVEL_WARNING));
  CHECK_RUN(metrics_are_served_at_a_free_port_of_loopback);
  CHECK_RUN(options_are_used_or_refused);
  CHECK_RUN(options_of_a_newer_program_are_read);
  CHECK_RUN(a_freed_backend_is_unavailable);
  CHECK_RUN(null_pointers_are_refused);
  CHECK_RUN(computed_metrics_are_served);
  return check_result();
}

/* A web server with four worker processes. All of them count in one file, so that any of them can answer GET /metrics
 * for all. Each other request is answered with a greeting.
 *
 *   cc forking_server.c -lpytheus_backend_rs -o forking_server
 *   ./forking_server 8080 /dev/shm/greeter &
 *   curl http://127.0.0.1:8080/ && curl http://127.0.0.1:8080/metrics
 *
 * SIGTERM ends it. A real server would read the whole request and would not trust its client as this one does.
 */
#define _POSIX_C_SOURCE 200809L
#include <arpa/inet.h>
#include <netinet/in.h>
#include <pytheus_backend_rs.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { WORKERS = 4 };

static pid_t workers[WORKERS];

static void fail(const char *what, BackendError *error) {
  fprintf(stderr, "%s: %s\n", what, error == NULL ? "failed" : backend_error_message(error));
  backend_error_free(error);
  exit(1);
}

/* Has SIGTERM end the workers, too. */
static void end_workers(int signal_number) {
  (void)signal_number;
  for (int index = 0; index < WORKERS; index++) kill(workers[index], SIGTERM);
}

static void answer(int client, const char *content_type, const char *body, size_t length) {
  dprintf(client, "HTTP/1.0 200 OK\r\nContent-Type: %s\r\nContent-Length: %zu\r\n\r\n", content_type, length);
  for (ssize_t written; length > 0 && (written = write(client, body, length)) > 0; body += written) {
    length -= (size_t)written;
  }
}

static void answer_scrape(int client, const Backend *backend) {
  MetricsText *text = NULL;
  if (metrics_render(backend, NULL, &text, NULL) == BACKEND_STATUS_OK) {
    answer(client, metrics_text_content_type(text), metrics_text_data(text), metrics_text_length(text));
  } else {
    dprintf(client, "HTTP/1.0 503 Service Unavailable\r\n\r\n");
  }
  metrics_text_free(text);
}

static void serve(int listener, const Backend *backend, const Metric *greetings) {
  for (;;) {
    char request[1024] = "";
    int client = accept(listener, NULL, NULL);
    if (client == -1) continue;
    if (read(client, request, sizeof request - 1) > 0 && strncmp(request, "GET /metrics ", 13) == 0) {
      answer_scrape(client, backend);
    } else {
      metric_inc(greetings, 1);
      answer(client, "text/plain", "hello\n", 6);
    }
    close(client);
  }
}

static int listen_at(int port) {
  struct sockaddr_in address;
  memset(&address, 0, sizeof address);
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons((unsigned short)port);
  int listener = socket(AF_INET, SOCK_STREAM, 0), on = 1;
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (bind(listener, (struct sockaddr *)&address, sizeof address) == -1 || listen(listener, 64) == -1) {
    perror("listen");
    exit(1);
  }
  return listener;
}

int main(int argument_count, char **arguments) {
  if (argument_count != 3) {
    fprintf(stderr, "usage: forking_server <port> <metrics file>\n");
    return 2;
  }
  int listener = listen_at(atoi(arguments[1]));

  /* Everything is declared before the workers are forked: the handles work in each of them. */
  char url[512];
  snprintf(url, sizeof url, "shm://%s?start=reset", arguments[2]);
  Backend *backend = NULL;
  BackendError *error = NULL;
  if (backend_new(url, &backend, &error) != BACKEND_STATUS_OK) fail("opening the metrics file", error);
  MetricFamilyOptions options;
  memset(&options, 0, sizeof options);
  options.size = sizeof options;
  options.name = "greetings_total";
  options.help = "Greetings, by all workers.";
  options.metric_type = METRIC_TYPE_COUNTER;
  MetricFamily *family = NULL;
  Metric *greetings = NULL;
  if (metric_family_new(backend, &options, &family, &error) != BACKEND_STATUS_OK ||
      metric_new(family, NULL, 0, &greetings, &error) != BACKEND_STATUS_OK) {
    fail("declaring the metrics", error);
  }

  for (int index = 0; index < WORKERS; index++) {
    workers[index] = fork();
    if (workers[index] == 0) serve(listener, backend, greetings);
  }
  signal(SIGTERM, end_workers);
  while (wait(NULL) != -1) {
  }
  metric_free(greetings);
  metric_family_free(family);
  backend_free(backend);
  unlink(arguments[2]);
  return 0;
}

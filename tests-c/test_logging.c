/* Log records of the library: discarded by default, sent to a callback from the thread that logs, or kept in a queue.
 * A program reads the queue by a thread that waits, or without one by looking at a byte.
 */
#include <pthread.h>

#include "children.h"
#include "declare.h"
#include "redis_server.h"

static RedisServer server;

/* The records that the callback has received. */
static struct {
  pthread_mutex_t lock;
  pthread_cond_t changed;
  char text[65536];
  pthread_t last_thread;
  void *last_user_data;
} received = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

static void receive(int32_t level, const char *message, void *user_data) {
  pthread_mutex_lock(&received.lock);
  size_t length = strlen(received.text);
  snprintf(received.text + length, sizeof received.text - length, "%d %s\n", (int)level, message);
  received.last_thread = pthread_self();
  received.last_user_data = user_data;
  pthread_cond_broadcast(&received.changed);
  pthread_mutex_unlock(&received.lock);
}

/* Discards records from now on, and forgets those that the callback has received. */
static void receive_nothing(void) {
  CHECK_STATUS(BACKEND_STATUS_OK, backend_log_callback(NULL, NULL, BACKEND_LOG_LEVEL_DEBUG));
  pthread_mutex_lock(&received.lock);
  received.text[0] = '\0';
  received.last_user_data = NULL;
  pthread_mutex_unlock(&received.lock);
}

/* Waits until the callback has received a record that contains `part`. ctest ends the program if it never does. */
static void wait_for_record(const char *part) {
  pthread_mutex_lock(&received.lock);
  while (strstr(received.text, part) == NULL) pthread_cond_wait(&received.changed, &received.lock);
  pthread_mutex_unlock(&received.lock);
}

static void log_an_error(void) {
  CHECK_STATUS(BACKEND_STATUS_PANIC, backend_panic(NULL));
}

/* Takes the next record of the queue, which must come. Returns its level and writes its text to `text`. */
static int32_t next_record(char *text, size_t size) {
  int32_t level = 0;
  char *message = NULL;
  text[0] = '\0';
  CHECK_STATUS(BACKEND_STATUS_OK, backend_log_next(60.0, &level, NULL, &message));
  if (message != NULL) snprintf(text, size, "%s", message);
  backend_string_free(message);
  return level;
}

static void expect_error(void) {
  char text[256];
  CHECK_NUMBER(BACKEND_LOG_LEVEL_ERROR, next_record(text, sizeof text));
  CHECK_CONTAINS("panicked", text);
}

static void expect_empty_queue(void) {
  int32_t level = 42;
  double time = 42;
  char *message = NULL;
  CHECK_STATUS(BACKEND_STATUS_NOT_FOUND, backend_log_next(0.0, &level, &time, &message));
  CHECK_NUMBER(42, level);
  CHECK_NUMBER(42, time);
  CHECK(message == NULL);
}

static void records_are_discarded_by_default(void) {
  log_an_error();
  expect_empty_queue();
}

static void opening_a_backend_logs_nothing(void) {
  CHECK_STATUS(BACKEND_STATUS_OK, backend_log_queue(BACKEND_LOG_LEVEL_INFO));
  Backend *backend = open_backend(server.url);
  expect_empty_queue();
  backend_free(backend);
}

static void records_above_the_level_are_left_out(void) {
  char reply[256], text[256];
  redis_server_ask(&server, reply, sizeof reply, "LPUSH", "requests_total", "x", (char *)NULL);
  CHECK_STATUS(BACKEND_STATUS_OK, backend_log_queue(BACKEND_LOG_LEVEL_ERROR));
  Backend *backend = open_backend(server.url);
  MetricFamily *family = declare_plain(backend, METRIC_TYPE_COUNTER, "requests_total");
  Metric *metric = make_metric(family, NULL);
  metric_inc(metric, 1);
  CHECK_STATUS(BACKEND_STATUS_STORE, backend_flush(backend, 30.0, NULL));
  CHECK_NUMBER(BACKEND_LOG_LEVEL_ERROR, next_record(text, sizeof text));
  CHECK_CONTAINS("\"requests_total\" is refused: it is a list", text);
  /* The engine logs at level info that the key is accepted again. */
  redis_server_ask(&server, reply, sizeof reply, "DEL", "requests_total", (char *)NULL);
  CHECK_OK(backend_flush(backend, 30.0, &error));
  expect_empty_queue();
  metric_free(metric);
  metric_family_free(family);
  backend_free(backend);
}

static void a_record_has_the_time_at_which_it_was_made(void) {
  int32_t level = 0;
  double made = 0;
  char *message = NULL;
  CHECK_STATUS(BACKEND_STATUS_OK, backend_log_queue(BACKEND_LOG_LEVEL_ERROR));
  double before = (double)time(NULL);
  log_an_error();
  double after = (double)time(NULL) + 1;
  CHECK_STATUS(BACKEND_STATUS_OK, backend_log_next(0.0, &level, &made, &message));
  CHECK(before <= made && made <= after);
  backend_string_free(message);
}

static void a_full_queue_drops_records_and_counts_them(void) {
  char text[256];
  CHECK_STATUS(BACKEND_STATUS_OK, backend_log_queue(BACKEND_LOG_LEVEL_ERROR));
  for (int index = 0; index < 1007; index++) log_an_error();
  for (int index = 0; index < 1000; index++) expect_error();
  CHECK_NUMBER(BACKEND_LOG_LEVEL_WARNING, next_record(text, sizeof text));
  CHECK_TEXT("7 log records were dropped: the queue was full", text);
  expect_empty_queue();
}

static void *read_the_queue(void *result) {
  char *message = NULL;
  int32_t level = 0;
  *(BackendStatus *)result = backend_log_next(1000000.0, &level, NULL, &message);
  backend_string_free(message);
  return NULL;
}

static void a_record_wakes_a_thread_that_waits_for_it(void) {
  pthread_t reader;
  BackendStatus status = BACKEND_STATUS_PANIC;
  CHECK_STATUS(BACKEND_STATUS_OK, backend_log_queue(BACKEND_LOG_LEVEL_ERROR));
  pthread_create(&reader, NULL, read_the_queue, &status);
  log_an_error();
  pthread_join(reader, NULL);
  CHECK_STATUS(BACKEND_STATUS_OK, status);
}

static void a_change_of_the_output_wakes_a_thread_that_waits_for_a_record(void) {
  pthread_t reader;
  BackendStatus status = BACKEND_STATUS_PANIC;
  CHECK_STATUS(BACKEND_STATUS_OK, backend_log_queue(BACKEND_LOG_LEVEL_ERROR));
  pthread_create(&reader, NULL, read_the_queue, &status);
  receive_nothing();
  pthread_join(reader, NULL);
  CHECK_STATUS(BACKEND_STATUS_NOT_FOUND, status);
}

/* --- Without a thread ----------------------------------------------------------------------------------- */

static bool records_wait(void) {
  return __atomic_load_n(backend_log_waiting(), __ATOMIC_RELAXED) != 0;
}

static void a_claim_hides_waiting_records_from_all_others_until_its_release(void) {
  CHECK_STATUS(BACKEND_STATUS_OK, backend_log_queue(BACKEND_LOG_LEVEL_ERROR));
  CHECK(!records_wait());
  CHECK_NUMBER(0, backend_log_claim());
  log_an_error();
  log_an_error();
  CHECK(records_wait());
  CHECK_NUMBER(2, backend_log_claim());
  CHECK(!records_wait());
  CHECK_NUMBER(0, backend_log_claim());
  expect_error();
  backend_log_release();
  CHECK(records_wait());
  expect_error();
  CHECK(!records_wait());
}

static void a_forked_child_has_neither_the_records_nor_the_claim_of_its_parent(void) {
  CHECK_STATUS(BACKEND_STATUS_OK, backend_log_queue(BACKEND_LOG_LEVEL_ERROR));
  log_an_error();
  CHECK_NUMBER(1, backend_log_claim());
  pid_t child = fork_child();
  if (child == 0) {
    CHECK(!records_wait());
    expect_empty_queue();
    log_an_error();
    CHECK(records_wait());
    CHECK_NUMBER(1, backend_log_claim());
    leave();
  }
  wait_for(child);
  backend_log_release();
  CHECK(records_wait());
  expect_error();
}

/* --- Callbacks ------------------------------------------------------------------------------------------ */

static void a_callback_receives_level_text_and_its_user_data(void) {
  int user_data = 0;
  CHECK_STATUS(BACKEND_STATUS_OK, backend_log_callback(receive, &user_data, BACKEND_LOG_LEVEL_ERROR));
  log_an_error();
  CHECK_CONTAINS("1 ", received.text);
  CHECK_CONTAINS("panicked", received.text);
  CHECK(received.last_user_data == &user_data);
  receive_nothing();
  log_an_error();
  CHECK_TEXT("", received.text);
}

static void threads_of_the_library_call_back_when_the_store_is_lost_and_back(void) {
  char lost[64], back[64];
  snprintf(lost, sizeof lost, "1 the store is lost: cannot connect to Redis at 127.0.0.1:%d", server.port);
  snprintf(back, sizeof back, "3 Redis at 127.0.0.1:%d is back\n", server.port);
  Backend *backend = open_backend(server.url);
  MetricFamily *family = declare_plain(backend, METRIC_TYPE_COUNTER, "requests_total");
  Metric *metric = make_metric(family, NULL);
  CHECK_OK(backend_flush(backend, 30.0, &error));
  CHECK_STATUS(BACKEND_STATUS_OK, backend_log_callback(receive, NULL, BACKEND_LOG_LEVEL_INFO));
  redis_server_kill(&server);
  metric_inc(metric, 1);
  wait_for_record(lost);
  CHECK(!pthread_equal(received.last_thread, pthread_self()));
  redis_server_restart(&server);
  wait_for_record(back);
  receive_nothing();
  metric_free(metric);
  metric_family_free(family);
  backend_free(backend);
}

static void freeing_a_backend_logs_the_number_of_unsent_changes(void) {
  char url[128], text[256];
  redis_server_kill(&server);
  snprintf(url, sizeof url, "%s?required=false&shutdown_timeout=0.05", server.url);
  Backend *backend = open_backend(url);
  MetricFamily *family = declare_plain(backend, METRIC_TYPE_COUNTER, "requests_total");
  Metric *metric = make_metric(family, NULL);
  CHECK_STATUS(BACKEND_STATUS_OK, backend_log_queue(BACKEND_LOG_LEVEL_ERROR));
  metric_inc(metric, 1);
  metric_free(metric);
  metric_family_free(family);
  backend_free(backend);
  do {
    CHECK_NUMBER(BACKEND_LOG_LEVEL_ERROR, next_record(text, sizeof text));
  } while (strstr(text, "the store is lost") != NULL);
  CHECK_CONTAINS("could not be sent to Redis at 127.0.0.1", text);
  receive_nothing();
  redis_server_restart(&server);
}

/* A callback that counts records with the library. */
static void count_record(int32_t level, const char *message, void *user_data) {
  const MetricFamily *family = user_data;
  Metric *metric = make_metric(family, level == BACKEND_LOG_LEVEL_ERROR ? "error" : "other");
  CHECK_STATUS(BACKEND_STATUS_OK, metric_inc(metric, 1));
  CHECK(message[0] != '\0');
  metric_free(metric);
}

static void *log_errors(void *unused) {
  int repetitions = check_repetitions(100);
  for (int index = 0; index < repetitions; index++) log_an_error();
  return unused;
}

static void a_callback_may_call_the_library_from_many_threads(void) {
  pthread_t threads[8];
  Backend *backend = open_backend("memory:");
  MetricFamily *family = declare_labelled(backend, METRIC_TYPE_COUNTER, "log_records_total");
  CHECK_STATUS(BACKEND_STATUS_OK, backend_log_callback(count_record, family, BACKEND_LOG_LEVEL_DEBUG));
  for (int index = 0; index < 8; index++) pthread_create(&threads[index], NULL, log_errors, NULL);
  for (int index = 0; index < 8; index++) pthread_join(threads[index], NULL);
  receive_nothing();
  Metric *metric = make_metric(family, "error");
  CHECK_NUMBER(8.0 * check_repetitions(100), value_of(metric));
  metric_free(metric);
  metric_family_free(family);
  backend_free(backend);
}

int main(void) {
  redis_server_start(&server);
  CHECK_RUN(records_are_discarded_by_default);
  CHECK_RUN(opening_a_backend_logs_nothing);
  CHECK_RUN(records_above_the_level_are_left_out);
  CHECK_RUN(a_record_has_the_time_at_which_it_was_made);
  CHECK_RUN(a_full_queue_drops_records_and_counts_them);
  CHECK_RUN(a_record_wakes_a_thread_that_waits_for_it);
  CHECK_RUN(a_change_of_the_output_wakes_a_thread_that_waits_for_a_record);
  CHECK_RUN(a_claim_hides_waiting_records_from_all_others_until_its_release);
  CHECK_RUN(a_forked_child_has_neither_the_records_nor_the_claim_of_its_parent);
  CHECK_RUN(a_callback_receives_level_text_and_its_user_data);
  CHECK_RUN(threads_of_the_library_call_back_when_the_store_is_lost_and_back);
  CHECK_RUN(freeing_a_backend_logs_the_number_of_unsent_changes);
  CHECK_RUN(a_callback_may_call_the_library_from_many_threads);
  redis_server_stop(&server);
  return check_result();
}

/* Where the library's log records go: nowhere, to a callback from whatever thread logs, or to a queue that
 * the program reads. What is logged are the lines that pytheus-backend-rs 0.0.9 users know, a store that is
 * lost and comes back, keys that are refused, and panics.
 */
#include <pthread.h>

#include "declare.h"
#include "redis_server.h"

static RedisServer server;

/* What the callback has received. */
static struct {
  pthread_mutex_t lock;
  pthread_cond_t changed;
  char text[65536];
  pthread_t last_thread;
  void *last_user_data;
  int32_t last_level;
} received = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

static void receive(int32_t level, const char *message, void *user_data) {
  pthread_mutex_lock(&received.lock);
  size_t length = strlen(received.text);
  snprintf(received.text + length, sizeof received.text - length, "%d %s\n", (int)level, message);
  received.last_thread = pthread_self();
  received.last_user_data = user_data;
  received.last_level = level;
  pthread_cond_broadcast(&received.changed);
  pthread_mutex_unlock(&received.lock);
}

static void receive_nothing(void) {
  CHECK_STATUS(BACKEND_STATUS_OK, backend_log_callback(NULL, NULL, BACKEND_LOG_LEVEL_DEBUG));
  pthread_mutex_lock(&received.lock);
  received.text[0] = '\0';
  received.last_user_data = NULL;
  pthread_mutex_unlock(&received.lock);
}

/* Waits until a record with `part` has come; ctest ends the program if it never does. */
static void wait_for_record(const char *part) {
  pthread_mutex_lock(&received.lock);
  while (strstr(received.text, part) == NULL) pthread_cond_wait(&received.changed, &received.lock);
  pthread_mutex_unlock(&received.lock);
}

/* The next record of the queue, which must come: its level and text. */
static int32_t next_record(char *text, size_t size) {
  int32_t level = 0;
  char *message = NULL;
  text[0] = '\0';
  CHECK_STATUS(BACKEND_STATUS_OK, backend_log_next(60.0, &level, &message));
  if (message != NULL) snprintf(text, size, "%s", message);
  backend_string_free(message);
  return level;
}

static void expect_record(int32_t expected_level, const char *expected_text) {
  char text[256];
  CHECK_NUMBER(expected_level, next_record(text, sizeof text));
  CHECK_TEXT(expected_text, text);
}

static void expect_empty_queue(void) {
  int32_t level = 42;
  char *message = NULL;
  CHECK_STATUS(BACKEND_STATUS_NOT_FOUND, backend_log_next(0.0, &level, &message));
  CHECK_NUMBER(42, level);
  CHECK(message == NULL);
}

static void nothing_is_logged_before_it_is_asked_for(void) {
  Backend *backend = open_backend(server.url);
  backend_free(backend);
  expect_empty_queue();
}

static void opening_a_backend_logs_nothing(void) {
  CHECK_STATUS(BACKEND_STATUS_OK, backend_log_queue(BACKEND_LOG_LEVEL_INFO));
  Backend *backend = open_backend(server.url);
  expect_empty_queue();
  backend_free(backend);
}

static void records_above_the_level_are_left_out(void) {
  char text[256];
  CHECK_STATUS(BACKEND_STATUS_OK, backend_log_queue(BACKEND_LOG_LEVEL_ERROR));
  Backend *backend = open_backend(server.url);
  expect_empty_queue();
  CHECK_STATUS(BACKEND_STATUS_PANIC, backend_panic(NULL));
  CHECK_NUMBER(BACKEND_LOG_LEVEL_ERROR, next_record(text, sizeof text));
  CHECK_CONTAINS("panicked", text);
  expect_empty_queue();
  backend_free(backend);
}

static void a_full_queue_drops_records_and_says_how_many(void) {
  char text[256];
  CHECK_STATUS(BACKEND_STATUS_OK, backend_log_queue(BACKEND_LOG_LEVEL_ERROR));
  for (int index = 0; index < 1007; index++) CHECK_STATUS(BACKEND_STATUS_PANIC, backend_panic(NULL));
  for (int index = 0; index < 1000; index++) {
    CHECK_NUMBER(BACKEND_LOG_LEVEL_ERROR, next_record(text, sizeof text));
  }
  expect_record(BACKEND_LOG_LEVEL_WARNING, "7 log records were dropped: the queue was full");
  expect_empty_queue();
}

static void *read_the_queue(void *result) {
  char *message = NULL;
  int32_t level = 0;
  *(BackendStatus *)result = backend_log_next(1000000.0, &level, &message);
  backend_string_free(message);
  return NULL;
}

static void whoever_waits_for_the_queue_is_woken_by_a_record(void) {
  pthread_t reader;
  BackendStatus status = BACKEND_STATUS_PANIC;
  CHECK_STATUS(BACKEND_STATUS_OK, backend_log_queue(BACKEND_LOG_LEVEL_ERROR));
  pthread_create(&reader, NULL, read_the_queue, &status);
  CHECK_STATUS(BACKEND_STATUS_PANIC, backend_panic(NULL));
  pthread_join(reader, NULL);
  CHECK_STATUS(BACKEND_STATUS_OK, status);
}

static void waiting_for_a_record_leaves_it_in_the_queue(void) {
  char text[256];
  CHECK_STATUS(BACKEND_STATUS_OK, backend_log_queue(BACKEND_LOG_LEVEL_ERROR));
  CHECK_STATUS(BACKEND_STATUS_NOT_FOUND, backend_log_wait(0.0));
  CHECK_STATUS(BACKEND_STATUS_PANIC, backend_panic(NULL));
  CHECK_STATUS(BACKEND_STATUS_OK, backend_log_wait(60.0));
  CHECK_STATUS(BACKEND_STATUS_OK, backend_log_wait(0.0));
  CHECK_NUMBER(BACKEND_LOG_LEVEL_ERROR, next_record(text, sizeof text));
  CHECK_STATUS(BACKEND_STATUS_NOT_FOUND, backend_log_wait(0.0));
}

static void whoever_waits_for_the_queue_is_woken_when_records_go_elsewhere(void) {
  pthread_t reader;
  BackendStatus status = BACKEND_STATUS_PANIC;
  CHECK_STATUS(BACKEND_STATUS_OK, backend_log_queue(BACKEND_LOG_LEVEL_ERROR));
  pthread_create(&reader, NULL, read_the_queue, &status);
  receive_nothing();
  pthread_join(reader, NULL);
  CHECK_STATUS(BACKEND_STATUS_NOT_FOUND, status);
}

static void *wait_for_the_queue(void *unused) {
  backend_log_wait(1000000.0);
  return unused;
}

/* If the one that only looks were woken alone, the one that takes would sleep on, and this test hang. */
static void whoever_takes_a_record_is_woken_though_others_only_look(void) {
  enum { LOOKING = 3 };
  int repetitions = check_repetitions(100);
  for (int index = 0; index < repetitions; index++) {
    pthread_t taking, looking[LOOKING];
    BackendStatus status = BACKEND_STATUS_PANIC;
    CHECK_STATUS(BACKEND_STATUS_OK, backend_log_queue(BACKEND_LOG_LEVEL_ERROR));
    for (int each = 0; each < LOOKING; each++) pthread_create(&looking[each], NULL, wait_for_the_queue, NULL);
    pthread_create(&taking, NULL, read_the_queue, &status);
    CHECK_STATUS(BACKEND_STATUS_PANIC, backend_panic(NULL));
    pthread_join(taking, NULL);
    CHECK_STATUS(BACKEND_STATUS_OK, status);
    receive_nothing();
    for (int each = 0; each < LOOKING; each++) pthread_join(looking[each], NULL);
  }
}

static void a_callback_receives_level_text_and_its_user_data(void) {
  int user_data = 0;
  CHECK_STATUS(BACKEND_STATUS_OK, backend_log_callback(receive, &user_data, BACKEND_LOG_LEVEL_INFO));
  CHECK_STATUS(BACKEND_STATUS_PANIC, backend_panic(NULL));
  pthread_mutex_lock(&received.lock);
  CHECK_CONTAINS("backend_panic was called", received.text);
  CHECK(received.last_user_data == &user_data);
  CHECK_NUMBER(BACKEND_LOG_LEVEL_ERROR, received.last_level);
  pthread_mutex_unlock(&received.lock);
  receive_nothing();
  CHECK_STATUS(BACKEND_STATUS_PANIC, backend_panic(NULL));
  CHECK_TEXT("", received.text);
}

static void threads_of_the_engine_call_back_when_the_store_is_lost_and_back(void) {
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

static void a_refused_key_is_reported_once(void) {
  char reply[256], text[256];
  redis_server_ask(&server, reply, sizeof reply, "FLUSHALL", (char *)NULL);
  redis_server_ask(&server, reply, sizeof reply, "LPUSH", "requests_total", "x", (char *)NULL);
  Backend *backend = open_backend(server.url);
  MetricFamily *family = declare_plain(backend, METRIC_TYPE_COUNTER, "requests_total");
  CHECK_STATUS(BACKEND_STATUS_OK, backend_log_queue(BACKEND_LOG_LEVEL_INFO));
  Metric *metric = make_metric(family, NULL);
  for (int index = 0; index < 5; index++) {
    metric_inc(metric, 1);
    CHECK_STATUS(BACKEND_STATUS_STORE, backend_flush(backend, 30.0, NULL));
  }
  CHECK_NUMBER(BACKEND_LOG_LEVEL_ERROR, next_record(text, sizeof text));
  CHECK_CONTAINS("\"requests_total\" is refused: WRONGTYPE", text);
  expect_empty_queue();
  redis_server_ask(&server, reply, sizeof reply, "DEL", "requests_total", (char *)NULL);
  CHECK_OK(backend_flush(backend, 30.0, &error));
  expect_record(BACKEND_LOG_LEVEL_INFO, "Redis key \"requests_total\" is accepted again");
  expect_empty_queue();
  receive_nothing();
  metric_free(metric);
  metric_family_free(family);
  backend_free(backend);
}

static void what_could_not_be_sent_is_told_when_a_backend_is_freed(void) {
  char url[128], text[256];
  Backend *backend = NULL;
  redis_server_kill(&server);
  snprintf(url, sizeof url, "%s?required=false&shutdown_timeout=0.05", server.url);
  backend = open_backend(url);
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

/* A callback that uses the library, as one that counts its log records does. */
static void count_record(int32_t level, const char *message, void *user_data) {
  const MetricFamily *family = user_data;
  Metric *metric = make_metric(family, level == BACKEND_LOG_LEVEL_ERROR ? "error" : "other");
  CHECK_STATUS(BACKEND_STATUS_OK, metric_inc(metric, 1));
  CHECK(message[0] != '\0');
  metric_free(metric);
}

static void *panic_often(void *unused) {
  int repetitions = check_repetitions(100);
  for (int index = 0; index < repetitions; index++) CHECK_STATUS(BACKEND_STATUS_PANIC, backend_panic(NULL));
  return unused;
}

static void a_callback_may_call_the_library_from_many_threads(void) {
  pthread_t threads[8];
  Backend *backend = open_backend("memory:");
  MetricFamily *family = declare_labelled(backend, METRIC_TYPE_COUNTER, "log_records_total");
  CHECK_STATUS(BACKEND_STATUS_OK, backend_log_callback(count_record, family, BACKEND_LOG_LEVEL_DEBUG));
  for (int index = 0; index < 8; index++) pthread_create(&threads[index], NULL, panic_often, NULL);
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
  CHECK_RUN(nothing_is_logged_before_it_is_asked_for);
  CHECK_RUN(opening_a_backend_logs_nothing);
  CHECK_RUN(records_above_the_level_are_left_out);
  CHECK_RUN(a_full_queue_drops_records_and_says_how_many);
  CHECK_RUN(whoever_waits_for_the_queue_is_woken_by_a_record);
  CHECK_RUN(waiting_for_a_record_leaves_it_in_the_queue);
  CHECK_RUN(whoever_waits_for_the_queue_is_woken_when_records_go_elsewhere);
  CHECK_RUN(whoever_takes_a_record_is_woken_though_others_only_look);
  CHECK_RUN(a_callback_receives_level_text_and_its_user_data);
  CHECK_RUN(threads_of_the_engine_call_back_when_the_store_is_lost_and_back);
  CHECK_RUN(a_refused_key_is_reported_once);
  CHECK_RUN(what_could_not_be_sent_is_told_when_a_backend_is_freed);
  CHECK_RUN(a_callback_may_call_the_library_from_many_threads);
  redis_server_stop(&server);
  return check_result();
}

/* Counting in a file that several backends and several processes have open: what one has counted, all see at
 * once. Each test has a file of its own, in a folder that is removed at the end.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <valgrind/valgrind.h>

#include "declare.h"

#define MEBIBYTE (1 << 20)

static char folder[] = "/tmp/test_shared_memory.XXXXXX";

/* The file of the test that runs, and its URL. */
static char path[64];
static char url[80];

static void begin_with_a_new_file(void) {
  static int number;
  snprintf(path, sizeof path, "%s/metrics-%d", folder, number++);
  snprintf(url, sizeof url, "shm://%s", path);
}

#define RUN(test)                                                                                             \
  do {                                                                                                        \
    begin_with_a_new_file();                                                                                  \
    CHECK_RUN(test);                                                                                          \
  } while (0)

/* The file's URL with options. */
static const char *url_with(const char *options) {
  static char text[128];
  snprintf(text, sizeof text, "%s?%s", url, options);
  return text;
}

static struct stat status_of_file(void) {
  struct stat status;
  if (stat(path, &status) != 0) check_give_up(path);
  return status;
}

/* The end of what is used of the file, which stands at byte 64: see docs/shared-memory-layout.md. */
static uint64_t used_bytes(void) {
  uint64_t used = 0;
  int file = open(path, O_RDONLY | O_CLOEXEC);
  if (file < 0 || pread(file, &used, sizeof used, 64) != sizeof used) check_give_up(path);
  close(file);
  return used;
}

static void write_file(const char *content, size_t length) {
  FILE *file = fopen(path, "w");
  if (file == NULL || fwrite(content, 1, length, file) != length || fclose(file) != 0) check_give_up(path);
}

/* --- URLs and options ---------------------------------------------------------------------------------- */

static void a_url_names_the_file_and_may_have_options(void) {
  Backend *backend = open_backend(url);
  CHECK((status_of_file().st_mode & 07777) == 0600);
  CHECK(status_of_file().st_size == MEBIBYTE);
  backend_free(backend);
  CHECK(unlink(path) == 0);
  backend = open_backend(url_with("size_limit=2097152&start=reset&mode=0640"));
  CHECK((status_of_file().st_mode & 07777) == 0640);
  backend_free(backend);
  char other[128];
  snprintf(other, sizeof other, "shm://%s/%s", folder, "with%20a%20%3F%20mark");
  backend = open_backend(other);
  backend_free(backend);
  snprintf(other, sizeof other, "%s/with a ? mark", folder);
  CHECK(unlink(other) == 0);
}

static void a_url_that_makes_no_sense_is_refused(void) {
  static const struct {
    const char *url, *part;
  } cases[] = {
      {"shm:", "absolute path"},
      {"shm://", "absolute path"},
      {"shm:///", "absolute path"},
      {"shm://relative/path", "absolute path"},
      {"shm:///tmp/x?colour=red", "\"colour\""},
      {"shm:///tmp/x?size_limit=1", "\"size_limit\" is \"1\""},
      {"shm:///tmp/x?size_limit=much", "\"size_limit\" is \"much\""},
      {"shm:///tmp/x?start=anew", "\"start\" is \"anew\""},
      {"shm:///tmp/x?mode=rw", "\"mode\" is \"rw\""},
      {"shm:///tmp/x?mode=0444", "\"mode\" is \"0444\""},
      {"shm:///tmp/x?cell=mutex", "\"cell\""},
  };
  for (size_t index = 0; index < sizeof cases / sizeof *cases; index++) {
    Backend *backend = NULL;
    CHECK_ERROR(BACKEND_STATUS_CONFIGURATION, cases[index].part, backend_new(cases[index].url, &backend, &error));
    CHECK(backend == NULL);
  }
}

static void a_start_counts_on_unless_it_is_to_reset(void) {
  const char *const options[] = {"start=continue", "start=continue", "start=reset", "start=continue"};
  const double expected[] = {1, 2, 1, 2};
  for (int index = 0; index < 4; index++) {
    Backend *backend = open_backend(url_with(options[index]));
    MetricFamily *family = declare_plain(backend, METRIC_TYPE_COUNTER, "requests_total");
    Metric *metric = make_metric(family, NULL);
    metric_inc(metric, 1);
    CHECK_NUMBER(expected[index], value_of(metric));
    metric_free(metric);
    metric_family_free(family);
    backend_free(backend);
  }
}

/* --- Two backends of one file -------------------------------------------------------------------------- */

static const char *const EVERY_TYPE = "# HELP z_odd Help.\n"
                                      "# TYPE z_odd untyped\n"
                                      "z_odd -0.5\n"
                                      "# HELP b_size Help.\n"
                                      "# TYPE b_size gauge\n"
                                      "b_size 8.25\n"
                                      "# HELP c_total Help.\n"
                                      "# TYPE c_total counter\n"
                                      "c_total{method=\"GET\"} 2.5\n"
                                      "c_total{method=\"\\\"\\\\\\n\"} 1\n"
                                      "# HELP d_bytes Help.\n"
                                      "# TYPE d_bytes summary\n"
                                      "d_bytes_sum 2\n"
                                      "d_bytes_count 2\n"
                                      "# HELP e_seconds Help.\n"
                                      "# TYPE e_seconds histogram\n"
                                      "e_seconds_bucket{le=\"0.5\"} 2\n"
                                      "e_seconds_bucket{le=\"10\"} 4\n"
                                      "e_seconds_bucket{le=\"+Inf\"} 5\n"
                                      "e_seconds_sum 22.5\n"
                                      "e_seconds_count 5\n";

static void every_type_is_shown_by_a_backend_that_declared_none(void) {
  Backend *backend = open_backend(url);
  Backend *other = open_backend(url);
  CHECK_SCRAPE("", other);
  const double bounds[] = {0.5, 10};
  MetricFamilyOptions histogram = options_for(METRIC_TYPE_HISTOGRAM, "e_seconds");
  histogram.buckets = bounds;
  histogram.bucket_count = 2;
  MetricFamily *families[] = {
      declare_plain(backend, METRIC_TYPE_UNTYPED, "z_odd"),      declare_plain(backend, METRIC_TYPE_GAUGE, "b_size"),
      declare_labelled(backend, METRIC_TYPE_COUNTER, "c_total"), declare_plain(backend, METRIC_TYPE_SUMMARY, "d_bytes"),
      declare(backend, &histogram),
  };
  Metric *metrics[] = {
      make_metric(families[0], NULL), make_metric(families[1], NULL), make_metric(families[2], "GET"),
      make_metric(families[3], NULL), make_metric(families[4], NULL), make_metric(families[2], "\"\\\n"),
  };
  CHECK_STATUS(BACKEND_STATUS_OK, metric_set(metrics[0], -1.5));
  CHECK_STATUS(BACKEND_STATUS_OK, metric_inc(metrics[0], 1));
  CHECK_STATUS(BACKEND_STATUS_OK, metric_set(metrics[1], 8));
  CHECK_STATUS(BACKEND_STATUS_OK, metric_inc(metrics[1], 1));
  CHECK_STATUS(BACKEND_STATUS_OK, metric_dec(metrics[1], 0.75));
  CHECK_STATUS(BACKEND_STATUS_OK, metric_inc(metrics[2], 2.5));
  CHECK_STATUS(BACKEND_STATUS_OK, metric_inc(metrics[5], 1));
  CHECK_STATUS(BACKEND_STATUS_OK, metric_observe(metrics[3], 3));
  CHECK_STATUS(BACKEND_STATUS_OK, metric_observe(metrics[3], -1));
  const double observations[] = {0.5, 0.25, 0.75, 10, 11};
  for (int index = 0; index < 5; index++) {
    CHECK_STATUS(BACKEND_STATUS_OK, metric_observe(metrics[4], observations[index]));
  }
  CHECK_STATUS(BACKEND_STATUS_INVALID_ARGUMENT, metric_inc(metrics[2], -1));
  CHECK_STATUS(BACKEND_STATUS_WRONG_TYPE, metric_set(metrics[2], 1));
  CHECK_SCRAPE(EVERY_TYPE, backend);
  CHECK_SCRAPE(EVERY_TYPE, other);
  for (int index = 0; index < 6; index++) metric_free(metrics[index]);
  for (int index = 0; index < 5; index++) metric_family_free(families[index]);
  backend_free(backend);
  /* Whoever has declared them may go. */
  CHECK_SCRAPE(EVERY_TYPE, other);
  backend_free(other);
  other = open_backend(url);
  CHECK_SCRAPE(EVERY_TYPE, other);
  backend_free(other);
}

static void two_backends_of_one_file_count_in_one_metric(void) {
  Backend *backends[] = {open_backend(url), open_backend(url)};
  MetricFamily *families[2];
  Metric *metrics[2];
  for (int index = 0; index < 2; index++) {
    families[index] = declare_labelled(backends[index], METRIC_TYPE_GAUGE, "size");
    metrics[index] = make_metric(families[index], "GET");
  }
  for (int turn = 0; turn < 10; turn++) {
    Metric *here = metrics[turn % 2], *there = metrics[1 - turn % 2];
    metric_set(here, turn);
    CHECK_NUMBER(turn, value_of(there));
    metric_inc(there, 3);
    metric_dec(here, 1);
    CHECK_NUMBER(turn + 2, value_of(here));
    CHECK_NUMBER(turn + 2, value_of(there));
  }
  for (int index = 0; index < 2; index++) {
    metric_free(metrics[index]);
    metric_family_free(families[index]);
    backend_free(backends[index]);
  }
}

static void a_metric_that_one_removes_is_gone_for_the_other_and_its_space_is_used_again(void) {
  Backend *backend = open_backend(url);
  Backend *other = open_backend(url);
  MetricFamily *family = declare_labelled(backend, METRIC_TYPE_COUNTER, "requests_total");
  MetricFamily *same = declare_labelled(other, METRIC_TYPE_COUNTER, "requests_total");
  Metric *metric = make_metric(family, "GET");
  Metric *kept = make_metric(family, "PUT");
  metric_inc(metric, 5);
  metric_inc(kept, 1);
  uint64_t used = used_bytes();
  const char *label_value = "GET";
  /* Who removes a metric need not have it. */
  CHECK_OK(metric_remove(same, &label_value, 1, &error));
  CHECK_ERROR(BACKEND_STATUS_NOT_FOUND, "GET", metric_remove(same, &label_value, 1, &error));
  const char *const without = "# HELP requests_total Help.\n"
                              "# TYPE requests_total counter\n"
                              "requests_total{method=\"PUT\"} 1\n";
  CHECK_SCRAPE(without, backend);
  CHECK_SCRAPE(without, other);
  double value = 0;
  CHECK_ERROR(BACKEND_STATUS_NOT_FOUND, "removed", metric_get(metric, &value, &error));
  /* Its handle changes nobody else's value, also not that of the one that has its place. */
  Metric *next = make_metric(same, "POS");
  metric_inc(metric, 100);
  CHECK_NUMBER(0, value_of(next));
  metric_inc(next, 2);
  CHECK_SCRAPE("# HELP requests_total Help.\n"
               "# TYPE requests_total counter\n"
               "requests_total{method=\"POS\"} 2\n"
               "requests_total{method=\"PUT\"} 1\n",
               backend);
  CHECK(used_bytes() == used);
  metric_free(metric);
  metric_free(kept);
  metric_free(next);
  metric_family_free(family);
  metric_family_free(same);
  backend_free(backend);
  backend_free(other);
}

static void metrics_that_come_and_go_need_no_more_space_than_those_that_are_there(void) {
  enum { METRICS = 100 };
  int rounds = check_repetitions(100);
  Backend *backends[] = {open_backend(url), open_backend(url)};
  MetricFamily *families[2];
  for (int index = 0; index < 2; index++) {
    families[index] = declare_labelled(backends[index], METRIC_TYPE_COUNTER, "requests_total");
  }
  uint64_t used = 0;
  for (int round = 0; round < rounds; round++) {
    Metric *last = NULL;
    for (int number = 0; number < METRICS; number++) {
      char text[32];
      snprintf(text, sizeof text, "%04d-%04d", round, number);
      metric_free(last);
      last = make_metric(families[number % 2], text);
      metric_inc(last, 1);
    }
    if (round == 0) used = used_bytes();
    /* One clears what both have made. */
    CHECK_OK(metric_family_clear(families[round % 2], &error));
    double value = 0;
    CHECK_ERROR(BACKEND_STATUS_NOT_FOUND, "removed", metric_get(last, &value, &error));
    metric_free(last);
    CHECK_SCRAPE("# HELP requests_total Help.\n# TYPE requests_total counter\n", backends[round % 2]);
    CHECK_SCRAPE("# HELP requests_total Help.\n# TYPE requests_total counter\n", backends[1 - round % 2]);
  }
  CHECK(used_bytes() == used);
  for (int index = 0; index < 2; index++) {
    metric_family_free(families[index]);
    backend_free(backends[index]);
  }
}

static void handles_outlive_their_backend_and_the_name_of_the_file(void) {
  Backend *backend = open_backend(url);
  MetricFamily *family = declare_plain(backend, METRIC_TYPE_COUNTER, "requests_total");
  Metric *metric = make_metric(family, NULL);
  CHECK(unlink(path) == 0);
  metric_inc(metric, 1);
  CHECK_NUMBER(1, value_of(metric));
  backend_free(backend);
  metric_inc(metric, 1);
  metric_free(metric);
  metric_family_free(family);
}

/* --- Errors -------------------------------------------------------------------------------------------- */

static void check_refused(const char *reason) {
  Backend *backend = NULL;
  CHECK_ERROR(BACKEND_STATUS_STORE, reason, backend_new(url, &backend, &error));
  CHECK_ERROR(BACKEND_STATUS_STORE, path, backend_new(url, &backend, &error));
  CHECK(backend == NULL);
}

static void a_file_that_cannot_be_used_is_an_error_with_its_name_and_the_reason(void) {
  static char garbage[2 * MEBIBYTE];
  for (size_t index = 0; index < sizeof garbage; index++) garbage[index] = (char)(index * 2654435761U >> 13);
  CHECK(mkdir(path, 0700) == 0);
  check_refused("directory");
  begin_with_a_new_file();
  write_file("", 0);
  check_refused("empty");
  begin_with_a_new_file();
  write_file(garbage, sizeof garbage);
  check_refused("no metrics file");
  begin_with_a_new_file();
  CHECK(symlink("/dev/null", path) == 0);
  check_refused("symbolic link");
  begin_with_a_new_file();
  CHECK(mkfifo(path, 0600) == 0);
  check_refused("no regular file");
  begin_with_a_new_file();
  backend_free(open_backend(url));
  CHECK(truncate(path, 5000) == 0);
  check_refused("cut off");
  begin_with_a_new_file();
  backend_free(open_backend(url));
  /* A byte of the file's random identity becomes another one. */
  int file = open(path, O_RDWR | O_CLOEXEC);
  unsigned char byte = 0;
  CHECK(pread(file, &byte, 1, 40) == 1);
  byte ^= 0xff;
  CHECK(pwrite(file, &byte, 1, 40) == 1);
  close(file);
  check_refused("checksum");
}

static void a_conflict_with_another_backend_of_the_file_is_refused(void) {
  Backend *backend = open_backend(url);
  Backend *other = open_backend(url);
  MetricFamily *family = declare_plain(backend, METRIC_TYPE_COUNTER, "requests_total");
  MetricFamily *refused = NULL;
  MetricFamilyOptions gauge = options_for(METRIC_TYPE_GAUGE, "requests_total");
  CHECK_ERROR(BACKEND_STATUS_CONFLICT, "\"requests_total\"", metric_family_new(other, &gauge, &refused, &error));
  static const char *const label_names[] = {"method"};
  MetricFamilyOptions labelled = options_for(METRIC_TYPE_COUNTER, "requests_total");
  labelled.label_names = label_names;
  labelled.label_count = 1;
  CHECK_ERROR(BACKEND_STATUS_CONFLICT, "requests_total", metric_family_new(other, &labelled, &refused, &error));
  CHECK(refused == NULL);
  metric_family_free(family);
  backend_free(backend);
  backend_free(other);
}

static void the_size_limit_is_an_error_and_what_there_is_counts_on(void) {
  Backend *backend = open_backend(url_with("size_limit=1048576"));
  MetricFamily *family = declare_labelled(backend, METRIC_TYPE_COUNTER, "requests_total");
  Metric *first = make_metric(family, "first");
  /* Long label values, so that it takes few of them. */
  static char text[10000];
  memset(text, 'x', sizeof text - 1);
  const char *label_value = text;
  BackendStatus status = BACKEND_STATUS_OK;
  int made = 0;
  while (status == BACKEND_STATUS_OK && made < 1000) {
    int digits = snprintf(text, sizeof text, "%d", made);
    text[digits] = 'x';
    Metric *metric = NULL;
    status = metric_new(family, &label_value, 1, &metric, NULL);
    metric_free(metric);
    made += status == BACKEND_STATUS_OK;
  }
  CHECK_STATUS(BACKEND_STATUS_STORE, status);
  CHECK(made > 90 && made < 105);
  Metric *metric = NULL;
  CHECK_ERROR(BACKEND_STATUS_STORE, "size limit of 1048576", metric_new(family, &label_value, 1, &metric, &error));
  CHECK_ERROR(BACKEND_STATUS_STORE, path, metric_new(family, &label_value, 1, &metric, &error));
  CHECK(metric == NULL);
  CHECK(status_of_file().st_size == MEBIBYTE);
  metric_inc(first, 2);
  CHECK_NUMBER(2, value_of(first));
  /* What is removed makes room. */
  CHECK_OK(metric_family_clear(family, &error));
  metric = make_metric(family, text);
  metric_free(metric);
  metric_free(first);
  metric_family_free(family);
  backend_free(backend);
}

static void a_file_grows_while_others_have_it_open(void) {
  Backend *backend = open_backend(url);
  Backend *other = open_backend(url);
  MetricFamily *family = declare_labelled(backend, METRIC_TYPE_COUNTER, "requests_total");
  MetricFamily *same = declare_labelled(other, METRIC_TYPE_COUNTER, "requests_total");
  Metric *first = make_metric(same, "first");
  static char text[20000];
  memset(text, 'x', sizeof text - 1);
  for (int number = 0; number < 120; number++) {
    int digits = snprintf(text, sizeof text, "%d", number);
    text[digits] = 'x';
    Metric *metric = make_metric(family, text);
    metric_inc(metric, number);
    Metric *seen = make_metric(same, text);
    CHECK_NUMBER(number, value_of(seen));
    metric_free(seen);
    metric_free(metric);
  }
  CHECK(status_of_file().st_size == 3 * MEBIBYTE);
  metric_inc(first, 1);
  CHECK_NUMBER(1, value_of(first));
  metric_free(first);
  metric_family_free(family);
  metric_family_free(same);
  backend_free(backend);
  backend_free(other);
}

/* --- Processes ----------------------------------------------------------------------------------------- */

/* Ends a child; its failed checks become its exit status. */
static void leave(void) {
  _exit(check_result());
}

static pid_t fork_child(void) {
  fflush(stderr);
  pid_t child = fork();
  if (child < 0) check_give_up("fork");
  if (child > 0) return child;
  atomic_store(&check_failures, 0);
  /* A child has memory of its parent's handles, which it does not free. All other errors still count. */
  VALGRIND_CLO_CHANGE("--leak-check=no");
  return child;
}

static int wait_for(pid_t child) {
  int status = -1;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  return status;
}

static MetricFamily *declare_seconds(const Backend *backend) {
  static const double bounds[] = {0.5, 1};
  MetricFamilyOptions options = options_for(METRIC_TYPE_HISTOGRAM, "seconds");
  options.buckets = bounds;
  options.bucket_count = 2;
  return declare(backend, &options);
}

static void check_seconds(const Backend *backend, double low, double high) {
  MetricFamily *family = declare_seconds(backend);
  Metric *metric = make_metric(family, NULL);
  double count = 0, sum = 0, bucket = 0;
  CHECK_OK(metric_get_count(metric, &count, &error));
  CHECK_OK(metric_get_sum(metric, &sum, &error));
  CHECK_OK(metric_get_bucket(metric, 0.5, &bucket, &error));
  CHECK(low <= count && count <= high);
  CHECK(low / 4 <= sum && sum <= high / 4);
  CHECK_NUMBER(count, bucket);
  metric_free(metric);
  metric_family_free(family);
}

/* Half of the children use the handles of their parent, and half open the file themselves. */
static void eight_processes_count_one_true_number(void) {
  enum { PROCESSES = 8 };
  int increments = check_repetitions(1000000), observations = check_repetitions(100000);
  Backend *backend = open_backend(url);
  MetricFamily *requests = declare_plain(backend, METRIC_TYPE_COUNTER, "requests_total");
  MetricFamily *seconds = declare_seconds(backend);
  Metric *counter = make_metric(requests, NULL), *histogram = make_metric(seconds, NULL);
  pid_t children[PROCESSES];
  for (int child = 0; child < PROCESSES; child++) {
    children[child] = fork_child();
    if (children[child] != 0) continue;
    if (child % 2 == 0) {
      Backend *own = open_backend(url);
      counter = make_metric(declare_plain(own, METRIC_TYPE_COUNTER, "requests_total"), NULL);
      histogram = make_metric(declare_seconds(own), NULL);
    }
    for (int index = 0; index < increments; index++) metric_inc(counter, 1);
    for (int index = 0; index < observations; index++) metric_observe(histogram, 0.25);
    leave();
  }
  for (int child = 0; child < PROCESSES; child++) CHECK(wait_for(children[child]) == 0);
  CHECK_NUMBER((double)PROCESSES * increments, value_of(counter));
  check_seconds(backend, (double)PROCESSES * observations, (double)PROCESSES * observations);
  metric_free(counter);
  metric_free(histogram);
  metric_family_free(requests);
  metric_family_free(seconds);
  backend_free(backend);
}

/* Each worker makes metrics, too, so that some die at it. */
static void a_worker(_Atomic uint64_t *counted, _Atomic uint64_t *observed) {
  Backend *backend = open_backend(url);
  Metric *counter = make_metric(declare_plain(backend, METRIC_TYPE_COUNTER, "requests_total"), NULL);
  Metric *histogram = make_metric(declare_seconds(backend), NULL);
  MetricFamily *family = declare_labelled(backend, METRIC_TYPE_GAUGE, "size");
  for (int number = 0;; number++) {
    char text[16];
    snprintf(text, sizeof text, "%d", number % 100);
    Metric *metric = make_metric(family, text);
    const char *label_value = text;
    if (number % 3 == 0) CHECK_OK(metric_remove(family, &label_value, 1, &error));
    metric_free(metric);
    for (int index = 0; index < 100; index++) {
      metric_inc(counter, 1);
      atomic_fetch_add(counted, 1);
    }
    metric_observe(histogram, 0.25);
    atomic_fetch_add(observed, 1);
  }
}

/* What each has counted it says after every single change, so that of one that is killed one is in doubt. */
static void processes_that_are_killed_have_lost_nothing_that_they_counted(void) {
  enum { PROCESSES = 4 };
  int kills = check_repetitions(40);
  _Atomic uint64_t *said = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (said == MAP_FAILED) check_give_up("mmap");
  pid_t children[PROCESSES] = {0};
  for (int number = 0; number < kills + PROCESSES; number++) {
    pid_t *child = &children[number % PROCESSES];
    if (*child != 0) {
      /* It dies in the midst of its work: somewhere behind what had been counted when we looked. */
      uint64_t before = atomic_load(&said[0]);
      while (atomic_load(&said[0]) < before + 1000 + 37 * (uint64_t)number) check_pause();
      kill(*child, SIGKILL);
      int status = wait_for(*child);
      CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    }
    *child = fork_child();
    if (*child == 0) a_worker(&said[0], &said[1]);
  }
  for (int child = 0; child < PROCESSES; child++) {
    kill(children[child], SIGKILL);
    wait_for(children[child]);
  }
  int killed = kills + PROCESSES;
  Backend *backend = open_backend(url);
  MetricFamily *family = declare_plain(backend, METRIC_TYPE_COUNTER, "requests_total");
  Metric *metric = make_metric(family, NULL);
  double counted = (double)atomic_load(&said[0]), value = value_of(metric);
  CHECK(counted <= value && value <= counted + killed);
  MetricFamily *seconds = declare_seconds(backend);
  Metric *histogram = make_metric(seconds, NULL);
  double observed = (double)atomic_load(&said[1]), count = 0;
  CHECK_OK(metric_get_count(histogram, &count, &error));
  CHECK(observed <= count && count <= observed + killed);
  /* The file is whole: it is scraped, and takes new metrics. */
  char *text = NULL;
  CHECK_OK(metrics_collect(backend, &text, NULL, &error));
  CHECK_CONTAINS("# TYPE size gauge\n", text);
  backend_string_free(text);
  MetricFamily *sizes = declare_labelled(backend, METRIC_TYPE_GAUGE, "size");
  Metric *size = make_metric(sizes, "new");
  metric_set(size, 5);
  CHECK_NUMBER(5, value_of(size));
  metric_free(size);
  metric_free(histogram);
  metric_free(metric);
  metric_family_free(sizes);
  metric_family_free(seconds);
  metric_family_free(family);
  backend_free(backend);
  munmap((void *)said, 4096);
}

/* Removes the folder with its files, and says how many there were that have no business there. */
static int remove_folder(void) {
  int strays = 0;
  DIR *open_folder = opendir(folder);
  if (open_folder == NULL) check_give_up(folder);
  for (struct dirent *entry; (entry = readdir(open_folder)) != NULL;) {
    if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
    strays += strncmp(entry->d_name, "metrics-", 8) != 0;
    char name[512];
    snprintf(name, sizeof name, "%s/%s", folder, entry->d_name);
    if (remove(name) != 0) check_give_up(name);
  }
  closedir(open_folder);
  rmdir(folder);
  return strays;
}

int main(void) {
  if (mkdtemp(folder) == NULL) check_give_up(folder);
  RUN(a_url_names_the_file_and_may_have_options);
  RUN(a_url_that_makes_no_sense_is_refused);
  RUN(a_start_counts_on_unless_it_is_to_reset);
  RUN(every_type_is_shown_by_a_backend_that_declared_none);
  RUN(two_backends_of_one_file_count_in_one_metric);
  RUN(a_metric_that_one_removes_is_gone_for_the_other_and_its_space_is_used_again);
  RUN(metrics_that_come_and_go_need_no_more_space_than_those_that_are_there);
  RUN(handles_outlive_their_backend_and_the_name_of_the_file);
  RUN(a_file_that_cannot_be_used_is_an_error_with_its_name_and_the_reason);
  RUN(a_conflict_with_another_backend_of_the_file_is_refused);
  RUN(the_size_limit_is_an_error_and_what_there_is_counts_on);
  RUN(a_file_grows_while_others_have_it_open);
  RUN(eight_processes_count_one_true_number);
  RUN(processes_that_are_killed_have_lost_nothing_that_they_counted);
  CHECK(remove_folder() == 0);
  return check_result();
}

/* Handles errors and receives the library's log.
 *
 *   cc logging.c -lpytheus_backend_rs -o logging
 *   ./logging redis://127.0.0.1:6379
 */
#include <pytheus_backend_rs.h>
#include <stdio.h>

/* Any thread may call this. The text is valid during the call. */
static void print_record(int32_t level, const char *message, void *user_data) {
  static const char *const names[] = {"", "error", "warning", "info", "debug"};
  fprintf(user_data, "%s: %s\n", names[level], message);
}

int main(int argument_count, char **arguments) {
  const char *url = argument_count > 1 ? arguments[1] : "memory:";
  /* Before opening a store, so that nothing is missed. */
  backend_log_callback(print_record, stderr, BACKEND_LOG_LEVEL_INFO);

  Backend *backend = NULL;
  BackendError *error = NULL;
  BackendStatus status = backend_new(url, &backend, &error);
  switch (status) {
    case BACKEND_STATUS_OK:
      puts("the store is open");
      break;
    case BACKEND_STATUS_CONFIGURATION:
      printf("the URL is wrong: %s\n", backend_error_message(error));
      break;
    case BACKEND_STATUS_UNAVAILABLE:
    case BACKEND_STATUS_TIMEOUT:
      /* With ?required=false the store opens now and connects when it can. */
      printf("the server is away: %s\n", backend_error_message(error));
      break;
    default:
      printf("%s: %s\n", backend_status_name(status), backend_error_message(error));
  }
  /* Freeing NULL does nothing, so that one path frees everything. */
  backend_error_free(error);
  backend_free(backend);
  backend_log_callback(NULL, NULL, BACKEND_LOG_LEVEL_INFO);
  return status == BACKEND_STATUS_OK ? 0 : 1;
}

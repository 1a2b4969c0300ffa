/* A server that hangs up while the library sends to it. The library must return an error; the signal SIGPIPE, which
 * ends a program by default, must never reach the program.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "children.h"
#include "declare.h"

/* More than the buffers of both ends hold, so that the library is in the middle of its send when the peer hangs up. */
enum { NAME_LENGTH = 8 << 20, RECEIVE_BUFFER = 4096 };

/* Opens the store with a client name that is too long to be sent at once. */
static void open_and_expect_an_error(const char *url) {
  char *long_url = malloc(strlen(url) + NAME_LENGTH + 64);
  if (long_url == NULL) check_give_up("malloc");
  char *end = long_url + sprintf(long_url, "%s?client_name=", url);
  memset(end, 'x', NAME_LENGTH);
  end[NAME_LENGTH] = '\0';
  signal(SIGPIPE, SIG_DFL);
  Backend *backend = NULL;
  CHECK_ERROR(BACKEND_STATUS_UNAVAILABLE, "the connection to Redis at", backend_new(long_url, &backend, &error));
  free(long_url);
}

/* Accepts one client of `listener`, lets it begin to send, and hangs up. */
static void serve_and_hang_up(int listener) {
  char byte;
  int client = accept(listener, NULL, NULL);
  if (client < 0 || read(client, &byte, 1) != 1) check_give_up("the client does not send");
  /* With TCP, the client's next send only fails with EPIPE if it has seen the end of the stream before the reset. */
  shutdown(client, SHUT_WR);
  struct timespec pause = {0, 100000000};
  nanosleep(&pause, NULL);
  close(client);
}

static void expect_no_signal(int listener, const char *url) {
  pid_t child = fork_child();
  if (child == 0) {
    close(listener);
    open_and_expect_an_error(url);
    leave();
  }
  serve_and_hang_up(listener);
  close(listener);
  wait_for(child);
}

static void a_server_on_a_unix_socket_that_hangs_up_is_an_error_and_no_signal(void) {
  char folder[] = "/tmp/test-hangup-XXXXXX", url[128];
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  if (mkdtemp(folder) == NULL) check_give_up("mkdtemp");
  snprintf(address.sun_path, sizeof address.sun_path, "%s/socket", folder);
  snprintf(url, sizeof url, "redis+unix://%s/socket", folder);
  int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (listener < 0 || bind(listener, (struct sockaddr *)&address, sizeof address) != 0 ||
      listen(listener, 1) != 0) {
    check_give_up("cannot listen on a Unix socket");
  }
  expect_no_signal(listener, url);
  unlink(address.sun_path);
  rmdir(folder);
}

static void a_server_on_tcp_that_hangs_up_is_an_error_and_no_signal(void) {
  int small = RECEIVE_BUFFER;
  char url[64];
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t length = sizeof address;
  int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (listener < 0 || setsockopt(listener, SOL_SOCKET, SO_RCVBUF, &small, sizeof small) != 0 ||
      bind(listener, (struct sockaddr *)&address, length) != 0 || listen(listener, 1) != 0 ||
      getsockname(listener, (struct sockaddr *)&address, &length) != 0) {
    check_give_up("cannot listen on the loopback interface");
  }
  snprintf(url, sizeof url, "redis://127.0.0.1:%d", ntohs(address.sin_port));
  expect_no_signal(listener, url);
}

int main(void) {
  CHECK_RUN(a_server_on_a_unix_socket_that_hangs_up_is_an_error_and_no_signal);
  CHECK_RUN(a_server_on_tcp_that_hangs_up_is_an_error_and_no_signal);
  return check_result();
}

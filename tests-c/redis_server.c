/* Implements redis_server.h. The server's standard output says when it is ready, so nothing here sleeps. Linux only: the
 * kernel kills the server when the test program ends.
 */
#include "redis_server.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

/* The number of ports to try, because another program may take a free port before the server does. */
enum { PORT_ATTEMPTS = 20 };

static void give_up(const char *reason) {
  perror(reason);
  exit(2);
}

static struct sockaddr_in loopback(int port) {
  struct sockaddr_in address;
  memset(&address, 0, sizeof address);
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons((unsigned short)port);
  return address;
}

static int free_port(void) {
  int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  struct sockaddr_in address = loopback(0);
  socklen_t length = sizeof address;
  if (listener < 0 || bind(listener, (struct sockaddr *)&address, length) != 0 ||
      getsockname(listener, (struct sockaddr *)&address, &length) != 0) {
    give_up("cannot find a free port");
  }
  close(listener);
  return ntohs(address.sin_port);
}

static void become_server(const RedisServer *server, int output, pid_t program) {
  char port[16];
  snprintf(port, sizeof port, "%d", server->port);
  dup2(output, STDOUT_FILENO);
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  /* The program may have died before the kernel was told. */
  if (getppid() != program) _exit(2);
  execl(REDIS_SERVER_PROGRAM, REDIS_SERVER_PROGRAM, "--port", port, "--bind", "127.0.0.1", "--unixsocket",
        server->socket_path, "--dir", server->folder, "--save", "", "--appendonly", "no", "--daemonize", "no",
        "--logfile", "", (char *)NULL);
  perror(REDIS_SERVER_PROGRAM);
  _exit(2);
}

/* Reads the server's output until it says that it is ready. */
static bool is_ready(RedisServer *server) {
  char seen[8192];
  size_t length = 0;
  while (length + 1 < sizeof seen) {
    ssize_t count = read(server->output, seen + length, sizeof seen - length - 1);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return false;
    length += (size_t)count;
    seen[length] = '\0';
    if (strstr(seen, "eady to accept connections") != NULL) return true;
  }
  return false;
}

static void reap(RedisServer *server) {
  while (waitpid(server->process, NULL, 0) < 0 && errno == EINTR) {
  }
  server->process = 0;
  close(server->output);
}

static bool launch(RedisServer *server) {
  int ends[2];
  pid_t program = getpid();
  if (pipe2(ends, O_CLOEXEC) != 0) give_up("pipe");
  snprintf(server->url, sizeof server->url, "redis://127.0.0.1:%d", server->port);
  server->process = fork();
  if (server->process < 0) give_up("fork");
  if (server->process == 0) become_server(server, ends[1], program);
  close(ends[1]);
  server->output = ends[0];
  if (is_ready(server)) return true;
  kill(server->process, SIGKILL);
  reap(server);
  return false;
}

void redis_server_start(RedisServer *server) {
  memset(server, 0, sizeof *server);
  strcpy(server->folder, "/tmp/tests-c-redis-XXXXXX");
  if (mkdtemp(server->folder) == NULL) give_up("mkdtemp");
  snprintf(server->socket_path, sizeof server->socket_path, "%s/redis.sock", server->folder);
  snprintf(server->unix_url, sizeof server->unix_url, "redis+unix://%s", server->socket_path);
  for (int attempt = 0; attempt < PORT_ATTEMPTS; attempt++) {
    server->port = free_port();
    if (launch(server)) return;
  }
  fprintf(stderr, "%s does not start\n", REDIS_SERVER_PROGRAM);
  exit(2);
}

void redis_server_kill(RedisServer *server) {
  kill(server->process, SIGKILL);
  reap(server);
}

void redis_server_restart(RedisServer *server) {
  for (int attempt = 0; attempt < PORT_ATTEMPTS; attempt++) {
    if (launch(server)) return;
  }
  fprintf(stderr, "%s does not start again on port %d\n", REDIS_SERVER_PROGRAM, server->port);
  exit(2);
}

void redis_server_stop(RedisServer *server) {
  if (server->process != 0) redis_server_kill(server);
  unlink(server->socket_path);
  rmdir(server->folder);
}

void redis_server_pause(const RedisServer *server) {
  kill(server->process, SIGSTOP);
}

void redis_server_resume(const RedisServer *server) {
  kill(server->process, SIGCONT);
}

static void append(char *reply, size_t size, const char *text) {
  size_t length = strlen(reply);
  snprintf(reply + length, size - length, "%s%s", length > 0 ? " " : "", text);
}

/* Reads one reply of the Redis protocol (RESP 2), elements of arrays included. */
static void read_reply(FILE *stream, char *reply, size_t size) {
  char line[4096];
  if (fgets(line, sizeof line, stream) == NULL) give_up("no reply from redis-server");
  line[strcspn(line, "\r\n")] = '\0';
  long number = strtol(line + 1, NULL, 10);
  switch (line[0]) {
    case '*':
      for (long index = 0; index < number; index++) read_reply(stream, reply, size);
      break;
    case '$':
      if (number < 0) {
        append(reply, size, "(nil)");
        break;
      }
      if ((size_t)number + 2 >= sizeof line || fread(line, 1, (size_t)number + 2, stream) != (size_t)number + 2) {
        give_up("a reply from redis-server is too long");
      }
      line[number] = '\0';
      append(reply, size, line);
      break;
    case '-':
      append(reply, size, line);
      break;
    default:
      append(reply, size, line + 1);
  }
}

void redis_server_ask(const RedisServer *server, char *reply, size_t size, ...) {
  struct sockaddr_in address = loopback(server->port);
  int connection = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (connect(connection, (struct sockaddr *)&address, sizeof address) != 0) give_up("cannot ask redis-server");
  FILE *stream = fdopen(connection, "r+");
  if (stream == NULL) give_up("fdopen");
  int count = 0;
  va_list arguments;
  va_start(arguments, size);
  while (va_arg(arguments, const char *) != NULL) count++;
  va_end(arguments);
  fprintf(stream, "*%d\r\n", count);
  va_start(arguments, size);
  for (int index = 0; index < count; index++) {
    const char *argument = va_arg(arguments, const char *);
    fprintf(stream, "$%zu\r\n%s\r\n", strlen(argument), argument);
  }
  va_end(arguments);
  fflush(stream);
  reply[0] = '\0';
  read_reply(stream, reply, size);
  fclose(stream);
}

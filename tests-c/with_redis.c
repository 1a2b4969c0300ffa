/* Runs another program with a private redis-server, whose URL is the program's last argument, and returns its exit
 * status. ctest runs the examples with it.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "redis_server.h"

int main(int argument_count, char **arguments) {
  RedisServer server;
  int status = 0;
  char **command = calloc((size_t)argument_count + 1, sizeof *command);
  if (command == NULL || argument_count < 2) {
    fprintf(stderr, "usage: %s program [argument...]\n", arguments[0]);
    return 2;
  }
  redis_server_start(&server);
  memcpy(command, arguments + 1, (size_t)(argument_count - 1) * sizeof *command);
  command[argument_count - 1] = server.url;
  pid_t program = fork();
  if (program == 0) {
    execvp(command[0], command);
    perror(command[0]);
    _exit(2);
  }
  waitpid(program, &status, 0);
  redis_server_stop(&server);
  free(command);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 2;
}

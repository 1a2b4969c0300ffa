/* A private redis-server on a free loopback port and a Unix socket, in a temporary folder, without persistence. It ends
 * with the test program.
 */
#ifndef REDIS_SERVER_H
#define REDIS_SERVER_H

#include <stddef.h>
#include <sys/types.h>

typedef struct {
  pid_t process;
  int port;
  /* Where the server's own output is read from. */
  int output;
  char folder[64];
  char socket_path[96];
  /* redis://127.0.0.1:<port> and redis+unix://<socket_path>, as backend_new takes them. */
  char url[64];
  char unix_url[128];
} RedisServer;

/* Starts a server and returns when it is ready. Ends the program if the server does not start. */
void redis_server_start(RedisServer *server);

/* Kills the server and waits for its end. */
void redis_server_kill(RedisServer *server);

/* Starts a killed server again, empty, on its port and socket. */
void redis_server_restart(RedisServer *server);

/* Stops the server and removes its folder. */
void redis_server_stop(RedisServer *server);

/* Stops and continues the process of the server. */
void redis_server_pause(const RedisServer *server);
void redis_server_resume(const RedisServer *server);

/* Sends a command (its arguments end with NULL) over a new connection and writes the reply as text: a nil is "(nil)", an
 * error begins with "-", and spaces separate the elements of an array. */
void redis_server_ask(const RedisServer *server, char *reply, size_t size, ...);

#endif

/* A redis-server of a test program's own: on a free loopback port and a Unix socket, in a temporary
 * folder, without persistence. It is stopped by its process id, and also ends when the program does,
 * however that comes about.
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

/* Starts a server, and returns when it serves. Ends the program if that is impossible. */
void redis_server_start(RedisServer *server);

/* Kills the server as a crash would, and waits until it is gone. */
void redis_server_kill(RedisServer *server);

/* Starts a server again, empty, on the port and socket of one that was killed. */
void redis_server_restart(RedisServer *server);

/* Stops the server and removes its folder. */
void redis_server_stop(RedisServer *server);

/* Makes the server stop answering, as a stalled machine would, and go on. */
void redis_server_pause(const RedisServer *server);
void redis_server_resume(const RedisServer *server);

/* Sends the server a command (the arguments end with NULL), over a connection of its own, and writes the
 * reply as text: a nil is "(nil)", an error begins with "-", the elements of an array follow each other
 * with a space. */
void redis_server_ask(const RedisServer *server, char *reply, size_t size, ...);

#endif

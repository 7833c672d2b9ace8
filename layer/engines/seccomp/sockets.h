/* What the files about sockets share: sockets.c (the program's sockets), shown.c (their names), connect.c,
   listen.c, accept.c, send.c and receive.c (datagrams). */
#ifndef PYMIRROR_SOCKETS_H
#define PYMIRROR_SOCKETS_H

#include <sys/socket.h>

#include "pump.h"

#define PM_DATAGRAM 65536 /* more than any datagram */
#define PM_CONTROL 4096
#define PM_IOV 1024 /* the kernel's UIO_MAXIOV */

#define RESTART 512 /* ERESTARTSYS: the kernel runs the handler and makes the call again if it may */
#define RESTART_ALWAYS 513 /* ERESTARTNOINTR: and always does, as in a call that no signal ends */
#define UNTOUCHED 1 /* no result of a call */

/* The program's socket, by a descriptor of ours. */
struct taken {
    int fd;
    int domain;
    enum pm_transport transport;
    int blocking;
    int device; /* it is bound to, 0: none */
    uint64_t socket;
};

/* One message of the program: where its parts are, copied once. */
struct message {
    uint64_t place; /* of its msghdr, 0 for sendto and recvfrom */
    struct msghdr header;
    struct iovec parts[PM_IOV];
    size_t size; /* of all parts */
};

static inline uint64_t arg(const struct worker *worker, int index)
{
    return worker->request.data.args[index];
}

int pm_pidfd(pid_t thread);
int pm_take(struct worker *worker, struct taken *taken);
int pm_take_named(struct worker *worker, struct taken *taken); /* fd, domain and socket alone */
int pm_waits(int fd);
int pm_connect(struct worker *worker, const struct taken *taken, const struct pm_address *peer);
int pm_well_formed(const struct pm_address *address, int domain);
void pm_fit(struct pm_address *address, const struct taken *taken);
int pm_read_address(const struct worker *worker, uint64_t place, uint64_t size, struct pm_address *address);
int pm_read_own(const struct worker *worker, uint64_t place, uint64_t size, struct pm_address *address);
long long pm_give_address(const struct worker *worker, uint64_t place, uint64_t size_place,
                          const struct pm_address *address);
int pm_give(const struct worker *worker, uint64_t place, const void *bytes, size_t size);
int pm_unpack(const struct pm_found *found, int *at, struct pm_address *part);
pm_question pm_question_of(const struct worker *worker, const struct taken *taken, int kind,
                           const struct pm_address *peer);
int pm_connected(int fd);
void pm_serve_connect(struct worker *worker);
void pm_serve_name(struct worker *worker);
void pm_serve_bind(struct worker *worker);
void pm_serve_listen(struct worker *worker);
void pm_serve_accept(struct worker *worker);
void pm_serve_send(struct worker *worker);
void pm_serve_receive(struct worker *worker);

/* receive.c */
int pm_interrupted(pid_t thread, int has_limit);
long long pm_now(void);
long long pm_limit(int fd, int option);

long long pm_send_first(struct worker *worker, const struct taken *taken); /* send.c: what TCP Fast Open has to send */

/* message.c: a message's parts; 0 or -errno */
int pm_message_read(const struct worker *worker, uint64_t place, struct message *message);
int pm_message_one(struct message *message, uint64_t data, uint64_t size, uint64_t name, uint64_t name_size);
int pm_message_move(const struct worker *worker, const struct message *message, char *bytes, size_t size, int writing);

#endif

/* The names of sockets that are asked for: getpeername and getsockname. What a feature has said of a socket (what it is
   connected to, where it is bound, whose its peer is) comes before what the kernel knows. */
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "sockets.h"

/* A port of 0 in the name shown stands for the socket's own. */
static void fill_port(int fd, struct pm_address *shown)
{
    struct sockaddr_in6 own; /* the port is at the same place in both families */
    socklen_t size = sizeof own;
    struct sockaddr_in6 *name = (void *)shown->bytes;

    if (name->sin6_family != AF_UNIX && name->sin6_port == 0 && getsockname(fd, (void *)&own, &size) == 0)
        name->sin6_port = own.sin6_port;
}

/* What is shown in place of the kernel's name. 0: nothing. */
static int find_name(const struct pm_pump *pump, const struct taken *taken, int of_peer, struct pm_address *shown)
{
    socklen_t size = sizeof shown->bytes;
    struct pm_address peer;
    struct pm_name name;

    if (getpeername(taken->fd, (void *)peer.bytes, &size) < 0) {
        if (of_peer || !pm_names_find(pump->bound, taken->socket, &name))
            return 0;
        *shown = name.name;
        return 1;
    }
    peer.size = (unsigned char)size;
    if (!pm_names_find(pump->names, taken->socket, &name))
        return pm_guests_find(pump->guests, &peer, taken->domain, of_peer, shown);
    *shown = of_peer ? name.peer : name.name;
    if (shown->size && !of_peer)
        fill_port(taken->fd, shown);
    return shown->size > 0;
}

/* The socket is let go of first: who closes it next and binds another to its address must find that free. */
void pm_serve_name(struct worker *worker)
{
    struct pm_pump *pump = worker->pump;
    struct pm_address shown;
    struct taken taken;
    int found;

    if ((!pm_names_any(pump->names) && !pm_names_any(pump->bound) && !pm_guests_any(pump->guests)) ||
        !pm_take_named(worker, &taken)) {
        pm_leave_alone(worker);
        return;
    }
    found = find_name(pump, &taken, worker->job.caught->op == OP_GETPEERNAME, &shown);
    close(taken.fd);
    if (found)
        pm_job_return(&worker->job, pm_give_address(worker, arg(worker, 1), arg(worker, 2), &shown));
    else
        pm_leave_alone(worker);
}

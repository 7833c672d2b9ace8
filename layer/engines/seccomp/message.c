/* The parts of one message of the program: read once, moved between there and here. */
#include <errno.h>
#include <string.h>
#include <sys/uio.h>

#include "sockets.h"

int pm_message_read(const struct worker *worker, uint64_t place, struct message *message)
{
    pid_t pid = (pid_t)worker->request.pid;
    struct msghdr *header = &message->header;

    message->place = place;
    message->size = 0;
    if (pm_read(pid, place, header, sizeof *header))
        return -EFAULT;
    if (header->msg_iovlen > PM_IOV)
        return -EMSGSIZE;
    if (header->msg_iovlen && pm_read(pid, (uintptr_t)header->msg_iov, message->parts,
                                      header->msg_iovlen * sizeof *message->parts))
        return -EFAULT;
    for (size_t i = 0; i < header->msg_iovlen; i++) {
        if (message->parts[i].iov_len > SSIZE_MAX - message->size)
            return -EINVAL;
        message->size += message->parts[i].iov_len;
    }
    return 0;
}

/* The same from the arguments of sendto and recvfrom. */
int pm_message_one(struct message *message, uint64_t data, uint64_t size, uint64_t name, uint64_t name_size)
{
    message->place = 0;
    message->size = size;
    message->parts[0] = (struct iovec){(void *)(uintptr_t)data, size};
    message->header = (struct msghdr){.msg_name = (void *)(uintptr_t)name, .msg_namelen = (socklen_t)name_size,
                                      .msg_iovlen = 1};
    return size > SSIZE_MAX ? -EINVAL : 0;
}

/* Between its parts in the program and `size` bytes here. */
int pm_message_move(const struct worker *worker, const struct message *message, char *bytes, size_t size, int writing)
{
    pid_t pid = (pid_t)worker->request.pid;

    for (size_t i = 0; i < message->header.msg_iovlen && size > 0; i++) {
        uint64_t place = (uintptr_t)message->parts[i].iov_base;
        size_t piece = message->parts[i].iov_len < size ? message->parts[i].iov_len : size;

        if (piece && (writing ? pm_give(worker, place, bytes, piece) : pm_read(pid, place, bytes, piece)))
            return -EFAULT;
        bytes += piece;
        size -= piece;
    }
    return 0;
}

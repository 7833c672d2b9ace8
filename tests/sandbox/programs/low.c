/* low PORT: binds to it, listens, and prints the port of the name it has then. */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

int main(int count, char **words)
{
    struct sockaddr_in own = {.sin_family = AF_INET, .sin_port = htons((unsigned short)atoi(words[count - 1]))};
    socklen_t size = sizeof own;
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    if (bind(fd, (void *)&own, size) || listen(fd, 1) || getsockname(fd, (void *)&own, &size))
        perror("low");
    printf("%d\n", ntohs(own.sin_port));
    return 0;
}

// Shows how Wine's sockets behave without the crate and without Rust: the bugs for which .ci/platforms skips tests.
// Prints a line for each: what a read returns after a reset, and what error a datagram socket gets after a refusal.
#include <stdio.h>
#include <winsock2.h>

static struct sockaddr_in own_address(SOCKET of) {
    struct sockaddr_in address;
    int length = sizeof address;
    getsockname(of, (struct sockaddr *)&address, &length);
    return address;
}

static SOCKET bound(int type) {
    struct sockaddr_in address = {0};
    SOCKET made = socket(AF_INET, type, 0);
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    bind(made, (struct sockaddr *)&address, sizeof address);
    return made;
}

int main(void) {
    WSADATA data;
    struct linger at_once = {1, 0};
    struct sockaddr_in address;
    DWORD patience_ms = 2000;
    char byte;
    int count;
    WSAStartup(0x202, &data);

    SOCKET listener = bound(SOCK_STREAM);
    listen(listener, 1);
    SOCKET client = socket(AF_INET, SOCK_STREAM, 0);
    address = own_address(listener);
    connect(client, (struct sockaddr *)&address, sizeof address);
    SOCKET served = accept(listener, NULL, NULL);
    setsockopt(served, SOL_SOCKET, SO_LINGER, (char *)&at_once, sizeof at_once);
    closesocket(served);
    count = recv(client, &byte, 1, 0);
    printf("reset: %d, error %d\n", count, count < 0 ? WSAGetLastError() : 0);

    SOCKET gone = bound(SOCK_DGRAM), asks = bound(SOCK_DGRAM);
    address = own_address(gone);
    closesocket(gone);
    setsockopt(asks, SOL_SOCKET, SO_RCVTIMEO, (char *)&patience_ms, sizeof patience_ms);
    connect(asks, (struct sockaddr *)&address, sizeof address);
    send(asks, "x", 1, 0);
    count = recv(asks, &byte, 1, 0);
    printf("refusal: %d, error %d\n", count, count < 0 ? WSAGetLastError() : 0);
    return 0;
}

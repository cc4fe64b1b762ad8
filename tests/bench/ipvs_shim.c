/*
 * Stands in for the kernel's IPVS, so that keepalived's checkers run on a kernel without it: preloaded into keepalived,
 * it says that the generic netlink family "IPVS" exists, swallows what is sent to that family, and acknowledges it by
 * calling the acknowledgement callbacks that keepalived set. keepalived uses libnl's generic netlink for nothing else in
 * its checker process. Only the programming of IPVS is left out by this; schedule, checks and verdicts are its own.
 */
#include <stddef.h>
#include <string.h>

struct nl_sock;
struct nl_msg;
typedef int (*callback)(struct nl_msg *, void *);

enum { FAMILY = 0x7f, FINISH = 1, ACK = 4, KINDS = 8 };
static callback callbacks[KINDS];
static void *arguments[KINDS];

int genl_ctrl_resolve(struct nl_sock *sock, const char *name)
{
    return strcmp(name, "IPVS") == 0 ? FAMILY : -12;
}

int nl_socket_modify_cb(struct nl_sock *sock, int type, int kind, callback function, void *argument)
{
    if (type >= 0 && type < KINDS) {
        callbacks[type] = function;
        arguments[type] = argument;
    }
    return 0;
}

int nl_send_auto(struct nl_sock *sock, struct nl_msg *message)
{
    return 64;
}

int nl_recvmsgs_default(struct nl_sock *sock)
{
    const int acknowledgements[] = {FINISH, ACK};
    for (size_t i = 0; i < 2; i++) {
        int type = acknowledgements[i];
        if (callbacks[type])
            callbacks[type](NULL, arguments[type]);
    }
    return 0;
}

/* Acceptors and candidates of the lease, in discrete time: never two open gates.
 *
 * Three acceptors 0, 1, 2; nodes 0 and 1 are candidates as well. One group. A tick is the unit of time; clocks run
 * alike here (what they may differ by is arithmetic, see hawatch/cluster/parameters.py), so that acceptors keep a
 * promise for T ticks and the gate's timer runs for T - 1: the guard.
 *
 * What may happen at any moment, in any order:
 *   a candidate arms the slot that is not in use and sends requests (the round's number is its order);
 *   a request is delivered, or not, or again: the sets of requests and releases that were ever sent only grow within
 *   the last WINDOW rounds, so loss, duplication, reordering and delay are all the same thing, a choice;
 *   a grant is delivered, or not; one that is delivered late finds another round;
 *   a candidate with a majority opens the slot, however late: it may have been frozen in between;
 *   an acceptor restarts: it forgets everything, and is silent for T ticks;
 *   a candidate closes its gate and releases, or gives up a round and releases;
 *   time goes on.
 *
 * Mutants, each by a -D, and each with a counter-example:
 *   AT_GRANT   the timer starts when the slot is opened
 *   NO_SILENCE an acceptor grants right after its restart
 *   UNORDERED  a release clears whatever its sender has
 *   ONE_GRANT  one grant suffices
 *   EAGER      the release leaves before the gate is closed
 * (One more, a slot armed with its active bit set, wants three rounds and more states than a test should take; the
 * simulator and the tests of ownership catch it.)
 * With -DREACHABLE there is a counter-example, too: both own, one after the other. So the model is not idle.
 */

#ifndef T
#define T 2              /* ticks that an acceptor keeps a promise */
#endif
#define HELD (T - 1)     /* ticks that the gate's timer runs */
#ifndef ROUNDS0
#define ROUNDS0 2        /* rounds that each candidate may ask in */
#endif
#ifndef ROUNDS1
#define ROUNDS1 2
#endif
#define ROUNDS 3         /* the most of both */
#ifndef RESTARTS
#define RESTARTS 1
#endif
#define NODES 3
#define CANDIDATES 2
#ifdef ONE_GRANT
#define MAJORITY 1
#else
#define MAJORITY 2
#endif

/* Acceptors. */
byte holder[NODES];      /* who has the promise: 1 + candidate, 0 nobody */
byte granted[NODES];     /* the round that it was given in */
byte left[NODES];        /* ticks that it still runs */
byte silent[NODES];      /* ticks for which nothing is promised */
byte newest[6];          /* of candidate c at acceptor a: [c * NODES + a] the newest round seen */
byte restarts;

/* Candidates. */
byte round_[CANDIDATES];     /* number of the last round */
bool asking[CANDIDATES];     /* it is being asked */
byte yes[CANDIDATES];        /* bits of the acceptors that granted it */
byte timer[4];               /* of candidate c, slot s: [c * 2 + s] */
bool bit_on[4];
byte used[CANDIDATES];       /* the slot opened last */
bool holds[CANDIDATES];      /* it believes that a slot of its own is open */
#ifdef REACHABLE
bool owned[CANDIDATES];
#endif
byte released[CANDIDATES];   /* bits of the rounds whose release was sent */

#define SLOT(c) (1 - used[c])
#define OPEN(c) ((timer[(c) * 2] > 0 && bit_on[(c) * 2]) || (timer[(c) * 2 + 1] > 0 && bit_on[(c) * 2 + 1]))
#define COUNT(bits) (((bits) & 1) + (((bits) >> 1) & 1) + (((bits) >> 2) & 1))

inline arm(c) {
    round_[c]++;
    asking[c] = true;
    yes[c] = 0;
    bit_on[c * 2 + SLOT(c)] = false;
#ifdef AT_GRANT
    timer[c * 2 + SLOT(c)] = 0;
#else
    timer[c * 2 + SLOT(c)] = HELD;
#endif
}

/* Whether acceptor a would grant candidate c's round r. */
#define GRANTS(c, a, r) ((r) > newest[(c) * NODES + (a)] && silent[a] == 0 && (holder[a] == 0 || holder[a] == (c) + 1))
/* Whether acceptor a has granted candidate c's present round, and would say so again. */
#define REPEATS(c, a) (round_[c] == newest[(c) * NODES + (a)] && holder[a] == (c) + 1 && granted[a] == round_[c])

inline grant(c, a, r) {
    newest[c * NODES + a] = r;
    holder[a] = c + 1;
    granted[a] = r;
    left[a] = T
}

/* The request of the present round reaches acceptor a, for the first time or again. What changes nothing is no step. */
#define REQUEST(a) \
    :: atomic { asking[c] && GRANTS(c, a, round_[c]) -> grant(c, a, round_[c]); yes[c] = yes[c] | (1 << a) } \
    :: atomic { asking[c] && REPEATS(c, a) && !(yes[c] & (1 << a)) -> yes[c] = yes[c] | (1 << a) }

/* A request of round r, which is over or was given up, reaches acceptor a late: the answer is for nobody. */
#define LATE(a, r) \
    :: atomic { (r < round_[c] || (r == round_[c] && !asking[c])) && GRANTS(c, a, r) -> grant(c, a, r) }

/* The release of round r reaches acceptor a, now or later, once or often. */
#ifdef UNORDERED
#define CLEARS(c, a, r) (holder[a] == (c) + 1)
#else
#define CLEARS(c, a, r) (holder[a] == (c) + 1 && granted[a] <= (r))
#endif
#define RELEASE(a, r) \
    :: atomic { (released[c] & (1 << r)) && (CLEARS(c, a, r) || r > newest[c * NODES + a]) -> \
                if \
                :: CLEARS(c, a, r) -> holder[a] = 0; granted[a] = 0; left[a] = 0 \
                :: else \
                fi; \
                if \
                :: r > newest[c * NODES + a] -> newest[c * NODES + a] = r \
                :: else \
                fi }

inline close(c) {
    timer[c * 2] = 0; timer[c * 2 + 1] = 0;
    bit_on[c * 2] = false; bit_on[c * 2 + 1] = false
}

inline tick_acceptor(a) {
    if :: silent[a] > 0 -> silent[a]-- :: else fi;
    if
    :: left[a] > 1 -> left[a]--
    :: left[a] == 1 -> left[a] = 0; holder[a] = 0; granted[a] = 0
    :: else
    fi
}

inline tick_gate(s) {
    if :: timer[s] > 0 -> timer[s]-- :: else fi
}

proctype candidate(byte c) {
endless:
    do
    /* arm and ask */
    :: atomic { !asking[c] && round_[c] < (c == 0 -> ROUNDS0 : ROUNDS1) -> arm(c) }
    REQUEST(0) REQUEST(1) REQUEST(2)
    LATE(0, 1) LATE(1, 1) LATE(2, 1) LATE(0, 2) LATE(1, 2) LATE(2, 2) LATE(0, 3) LATE(1, 3) LATE(2, 3)
    RELEASE(0, 1) RELEASE(1, 1) RELEASE(2, 1) RELEASE(0, 2) RELEASE(1, 2) RELEASE(2, 2)
    RELEASE(0, 3) RELEASE(1, 3) RELEASE(2, 3)
    /* enough grants: open the slot, sooner or later */
    :: atomic { asking[c] && COUNT(yes[c]) >= MAJORITY ->
                asking[c] = false;
                yes[c] = 0;
                bit_on[c * 2 + SLOT(c)] = true;
#ifdef AT_GRANT
                timer[c * 2 + SLOT(c)] = HELD;
#endif
                used[c] = SLOT(c);
                holds[c] = true;
                assert(!(OPEN(0) && OPEN(1)));    /* a gate opens nowhere else */
#ifdef REACHABLE
                owned[c] = owned[c] || OPEN(c);
                assert(!(owned[0] && owned[1]))
#endif
              }
    /* a round is given up; only who has no gate open releases */
    :: atomic { asking[c] -> asking[c] = false; yes[c] = 0;
                if
                :: !holds[c] -> released[c] = released[c] | (1 << round_[c])
                :: else
                fi }
    /* an owner lets go */
#ifdef EAGER
    :: atomic { holds[c] && !asking[c] -> holds[c] = false; released[c] = released[c] | (1 << round_[c]) }
    :: atomic { !holds[c] && !asking[c] && OPEN(c) -> close(c) }
#else
    :: atomic { holds[c] && !asking[c] -> close(c); holds[c] = false; released[c] = released[c] | (1 << round_[c]) }
#endif
    od
}

#ifdef NO_SILENCE
#define SILENCE 0
#else
#define SILENCE T
#endif
#define RESTART(a) \
    :: atomic { restarts < RESTARTS -> \
                restarts++; holder[a] = 0; granted[a] = 0; left[a] = 0; \
                newest[a] = 0; newest[NODES + a] = 0; silent[a] = SILENCE }

active proctype world() {
    atomic { run candidate(0); run candidate(1) }
endless:
    do
    :: atomic {
        tick_acceptor(0); tick_acceptor(1); tick_acceptor(2);
        tick_gate(0); tick_gate(1); tick_gate(2); tick_gate(3);
        if :: holds[0] && !OPEN(0) -> holds[0] = false :: else fi;
        if :: holds[1] && !OPEN(1) -> holds[1] = false :: else fi }
    /* an acceptor restarts and has forgotten everything */
    RESTART(0) RESTART(1) RESTART(2)
    od
}

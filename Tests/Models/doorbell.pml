/* The doorbell protocol of the local data path (how a sleeper is woken), for spin. See check.sh.
 *
 * CFG   0: one writer    -> two readers of one end (may be two processes: one may be killed)
 *       1: two writers of one end -> one reader
 *       2: full duplex: each end a reader and a writer (two sleepers of different kinds on one queue)
 *       3: one writer, one reader, bigger ring (the half free rule)
 * Rules that are switched off or broken by -D, each of which spin must refute:
 *   DESCRIBED  one queue, recv(PEEK) for all, drain under the ring's lock only, own ring looked at only (the first design)
 *   FLAG, DRAINFIRST, NOLOOK, EARLY, ONEBELL    the five classic mistakes
 *   NOPEEK     drain without having seen the bell under the drain lock before the look
 *   OWNONLY    the drainer looks only at its own ring
 *   WEXCL      blocked writers sleep as exclusive waiters on the one queue
 *   NOSWEEP    a dead sleeper's private slot is believed for ever (not run by check.sh: never finished)
 *   STALEFULL  'it was full' decided with the tail read before the head moved
 *   SHORTQ     a queue that holds one bell
 *   TAKEALL    a sleeper in company takes its bell with it too
 * TWOQ        the other repair: a queue of its own for each kind of sleeper. No slots, no drain lock, exclusive waiting for all.
 * KILL        one process of the two process end is killed at any step
 * STRICT      no exemption for a kill between the store of a cursor and its bell
 * BACKSTOP    a sleeper of an end with several processes wakes by a timer now and then, and rings for the peer's sleepers
 *
 * The memory is sequentially consistent here: it stands for seq_cst stores, loads and fences in the code.
 */
#ifndef CFG
#define CFG 0
#endif
#ifndef CAP
#define CAP 2
#endif
#ifndef N
#define N 3              /* bytes a writer sends */
#endif
#ifdef SHORTQ
#define QMAX 1
#else
#define QMAX 2           /* bells a queue holds: at least 2, and at least the exclusive sleepers */
#endif
#if CFG==2
#define NP 4
#elif CFG==3
#define NP 2
#else
#define NP 3
#endif
#define NONE 0
#define EXCL 1           /* in recv(MSG_PEEK): one arrival wakes one of these */
#define POLL 2           /* in poll: an arrival wakes all of these */
#define WOKEN 3          /* made runnable; the kernel looks at the queue again before it returns */
#define RD 0
#define WR 1

byte tail[2], head[2];   /* [d]: the ring written by end d; absolute positions */
byte buf[2*CAP];            /* d*CAP + position % CAP */
byte rs[2], ws[2];       /* the published counts of an end */
byte q[4];               /* bells in an end's queue(s) */
bool hup[2];             /* the peer of end e is gone */
byte rl[2], wl[2], dl[2];/* locks of an end: 0, or owner + 1 */
byte live[2];            /* processes an end has */
byte ks[NP];             /* kernel state of a process */
bool slot[NP];           /* private to an end: process p is between arming and disarming */
bool dead[NP], gone[NP], away[NP];
bool midring[NP];        /* ghost: cursor stored, bells not yet all sent */
bool owed[2];            /* ghost: an end's process died there */
bool killed;

#if CFG==0
#define ENDOF(p) ((p)!=0)
#define KIND(p)  ((p)==0)
#elif CFG==1
#define ENDOF(p) ((p)!=0)
#define KIND(p)  ((p)!=0)
#elif CFG==2            /* 0: reader, 1: writer of end 0; 2: reader, 3: writer of end 1 */
#define ENDOF(p) ((p)>=2)
#define KIND(p)  ((p)==1 || (p)==3)
#else
#define ENDOF(p) ((p)!=0)
#define KIND(p)  ((p)==0)
#endif
#ifdef TWOQ
#define QI(e,k) (2*(e)+(k))
#else
#define QI(e,k) (2*(e))
#endif
#define QOF(p) QI(ENDOF(p),KIND(p))

#define DATA(e)  (tail[1-(e)] != head[1-(e)])       /* something to read for end e */
#define SPACE(e) (tail[e] - head[e] < CAP)          /* room to write for end e */
#define COND(p)  ((KIND(p)==RD && DATA(ENDOF(p))) || (KIND(p)==WR && SPACE(ENDOF(p))))
#ifdef NOSWEEP
#define DUE1(p,me) (slot[p] && ENDOF(p)==ENDOF(me) && KIND(p)!=KIND(me) && COND(p))
#else
#define DUE1(p,me) (slot[p] && !dead[p] && ENDOF(p)==ENDOF(me) && KIND(p)!=KIND(me) && COND(p))
#endif
#if NP==4
#define DUE(me) (DUE1(0,me) || DUE1(1,me) || DUE1(2,me) || DUE1(3,me))
#elif NP==3
#define DUE(me) (DUE1(0,me) || DUE1(1,me) || DUE1(2,me))
#else
#define DUE(me) false
#endif

/* A sleeper that saw nobody else of its end armed, after it had armed itself, sleeps in recv: it takes the bell
 * with it, without a look. Whoever arms later sees it armed, so what that one waits for rings a bell more. */
#if defined(DESCRIBED) || defined(TWOQ)
#define LONE false
#elif defined(TAKEALL)
#define LONE true
#else
#define LONE (rs[e]+ws[e] == 1)
#endif
/* Afterwards `lone` says that a bell was taken. */
#define TAKE if :: lone && q[QOF(me)] > 0 -> q[QOF(me)]-- :: else -> lone = false fi

#define LOCK(l)   atomic { (l==0 || dead[l-1]) -> l = me+1 }
#define UNLOCK(l) l = 0

#if defined(DESCRIBED) || defined(TWOQ)
#define DRAINLOCK skip
#define DRAINUNLOCK skip
#else
#define DRAINLOCK LOCK(dl[e])
#define DRAINUNLOCK UNLOCK(dl[e])
#endif

inline wakeall(we) {      /* the hang-up that end we sees */
  hup[we] = true; i = 0;
  do
  :: i < NP -> if :: ENDOF(i)==(we) && (ks[i]==EXCL || ks[i]==POLL) -> ks[i] = WOKEN :: else fi; i++
  :: else -> i = 0; break
  od
}

/* one bell for end pe; which exclusive waiter is woken is left open (the kernel's order is one of these) */
inline bell(pe, bk) {
  atomic {
    if
    :: hup[e] || q[QI(pe,bk)] >= QMAX -> skip            /* dropped */
    :: else ->
       q[QI(pe,bk)]++; i = 0; x = 99;
       do
       :: i < NP ->
          if
          :: ks[i]==POLL && QOF(i)==QI(pe,bk) -> ks[i] = WOKEN
          :: ks[i]==EXCL && QOF(i)==QI(pe,bk) -> if :: x = i :: x != 99 fi
          :: else
          fi; i++
       :: else -> break
       od;
       if :: x != 99 -> ks[x] = WOKEN :: else fi;
       i = 0; x = 0
    fi
  }
}

/* after a cursor was stored (and a full fence): bells for the peer's sleepers of kind k */
inline ring(k) {
#ifndef EARLY
  atomic { c = (k==RD -> rs[1-e] : ws[1-e]); owed[e] = false };
#endif
#ifdef ONEBELL
  if :: c > 1 -> c = 1 :: else fi;
#endif
  do
  :: c > 0 -> bell(1-e, k); c--
  :: else -> break
  od;
  midring[me] = false
}

inline arm(cnt) {
  slot[me] = true;
#ifdef FLAG
  cnt = 1
#else
  cnt++
#endif
}
inline disarm(cnt) {
#ifdef FLAG
  cnt = 0;
#else
  cnt--;
#endif
  slot[me] = false
}

/* found nothing to do after a kernel wake-up; the ring's lock is held */
inline drain() {
  DRAINLOCK;
#if defined(NOPEEK) || defined(DESCRIBED)
  c = 1;
#else
  c = (q[QOF(me)] > 0);                               /* recv(PEEK|DONTWAIT): now the front bell is known */
#endif
#ifndef DRAINFIRST
#if !defined(DESCRIBED)
  if :: c && COND(me) -> c = 0 :: else fi;              /* the look that counts is the one after the peek */
#if !defined(OWNONLY) && !defined(TWOQ)
  if :: c && DUE(me) -> c = 0 :: else fi;               /* ... at both rings, for sleepers of the other kind */
#endif
#endif
#endif
  atomic { if :: c && q[QOF(me)] > 0 -> q[QOF(me)]-- :: else fi; c = 0 };   /* exactly one */
  DRAINUNLOCK
}

inline entersleep() {
#if defined(TWOQ) || defined(WEXCL) || defined(DESCRIBED)
  ks[me] = EXCL
#else
  if :: lone || KIND(me)==RD -> ks[me] = EXCL :: !lone -> ks[me] = POLL fi
#endif
}

inline ksleep() {
  lone = LONE;
  atomic {
    woke = true;
    if
    :: q[QOF(me)] > 0 || hup[e] -> TAKE
    :: else -> entersleep()
    fi
  }
end_asleep:
  do
  :: atomic { ks[me]==NONE -> break }
  :: atomic { ks[me]==WOKEN ->
       if
       :: q[QOF(me)] > 0 || hup[e] -> ks[me] = NONE; TAKE
       :: else -> entersleep()
       fi }
#ifdef BACKSTOP
  :: atomic { owed[e] && ks[me]!=NONE -> ks[me] = NONE; woke = false; tick = true }
#endif
  od
}

inline quit() {
  atomic {
    gone[me] = true; live[e]--;
    if :: live[e]==0 -> wakeall(1-e) :: else fi
  }
}

/* the timer's round: ring for whoever sleeps over there */
inline ontick() {
  if :: tick -> tick = false; ring(RD); ring(WR) :: else fi
}

proctype Reader(byte me) {
  byte e, h, t, n, c, i, x; bool woke, lone, hs, tick;
  { atomic { e = ENDOF(me) };
again:
    LOCK(rl[e]);
#ifdef DRAINFIRST
    if :: woke && !lone -> drain() :: else fi;
#endif
    atomic { h = head[1-e]; t = tail[1-e]; assert(t-h <= CAP) };
    if
    :: t != h ->
       atomic {                                         /* copy */
         if :: n = 1 :: n = t-h fi; i = h;
         do :: i < h+n -> assert(buf[(1-e)*CAP + i%CAP] == i+1); i++ :: else -> break od; i = 0
       }
#ifdef EARLY
       c = ws[1-e];
#endif
       atomic { assert(head[1-e]==h); head[1-e] = h+n; midring[me] = true };
       UNLOCK(rl[e]);
#ifndef STALEFULL
       t = tail[1-e];                                   /* after the fence: was it full when the head moved? */
#endif
       if
       :: t-h >= CAP || CAP-(t-(h+n)) >= CAP/2 -> ring(WR)
       :: else -> atomic { midring[me] = false; c = 0 }
       fi;
       atomic { woke = false; lone = false; t = 0; h = 0; n = 0 };
       if :: goto again :: goto leave :: atomic { away[me] = true; goto out } fi
    :: else ->
       if
       :: hs -> assert(t==tail[1-e]); UNLOCK(rl[e]); goto leave            /* end of file */
       :: else
       fi;
#ifndef DRAINFIRST
       if :: woke && !lone -> drain() :: else fi;
#endif
       UNLOCK(rl[e]);
       if :: !woke -> ring(WR) :: else fi               /* fresh from the program: make good a dead sibling's bell */
    fi;
    atomic { arm(rs[e]); h = 0; t = 0; c = 0 };
#ifndef NOLOOK
    if :: DATA(e) -> atomic { disarm(rs[e]); goto again } :: else fi;
#endif
    ksleep();
    atomic { disarm(rs[e]); hs = hup[e] };
#ifdef BACKSTOP
    ontick();
#endif
    goto again;
leave: quit();
out: skip
  } unless { dead[me] };
}

proctype Writer(byte me) {
  byte e, h, t, n, c, i, x, left; bool woke, lone, hs, tick;
  { atomic { e = ENDOF(me); left = N };
again:
    if :: left==0 -> if :: goto leave :: atomic { away[me] = true; goto out } fi :: else fi;
    LOCK(wl[e]);
#ifdef DRAINFIRST
    if :: woke && !lone -> drain() :: else fi;
#endif
    atomic { h = head[e]; t = tail[e]; assert(t-h <= CAP) };
    if
    :: hs -> UNLOCK(wl[e]); goto leave                  /* EPIPE */
    :: !hs && t-h < CAP ->
       atomic {
         if :: n = 1 :: n = CAP-(t-h); if :: n > left -> n = left :: else fi fi; i = t;
         do :: i < t+n -> buf[e*CAP + i%CAP] = i+1; i++ :: else -> break od; i = 0
       }
#ifdef EARLY
       c = rs[1-e];
#endif
       atomic { assert(tail[e]==t); tail[e] = t+n; left = left-n; midring[me] = true };
       UNLOCK(wl[e]);
       ring(RD);
       atomic { woke = false; lone = false; t = 0; h = 0; n = 0 };
       goto again
    :: !hs && t-h >= CAP ->
#ifndef DRAINFIRST
       if :: woke && !lone -> drain() :: else fi;
#endif
       UNLOCK(wl[e]);
       if :: !woke -> ring(RD) :: else fi
    fi;
    atomic { arm(ws[e]); h = 0; t = 0; c = 0 };
#ifndef NOLOOK
    if :: SPACE(e) -> atomic { disarm(ws[e]); goto again } :: else fi;
#endif
    ksleep();
    atomic { disarm(ws[e]); hs = hup[e] };
#ifdef BACKSTOP
    ontick();
#endif
    goto again;
leave: quit();
out: skip
  } unless { dead[me] };
}

#ifdef KILL
proctype Killer() {
  byte i;
  atomic {
    if
    :: skip                                             /* nobody */
#if CFG==2
    :: !gone[0] -> dead[0] = true; i = 0
    :: !gone[1] -> dead[1] = true; i = 1
#else
    :: !gone[1] -> dead[1] = true; i = 1
#endif
    fi;
    if
    :: dead[i] ->
       killed = true; gone[i] = true; ks[i] = NONE; live[ENDOF(i)]--;
       if :: midring[i] -> owed[ENDOF(i)] = true :: else fi;
       if :: live[ENDOF(i)]==0 -> 
#if CFG==2
          wakeall(1)
#else
          wakeall(0)
#endif
       :: else fi
    :: else
    fi; i = 0
  }
}
#endif

/* Nothing can move any more. Then nobody may sleep who has something to do, nor hang in a lock.
 * Exempt: the peer's process was killed between the store and the bell, which to us looks as if it had been killed before.
 * With BACKSTOP the exemption holds only while no other process of that end is in the library. */
#ifdef STRICT
#define EXEMPT(e) (owed[1-(e)] && noneasleep(1-(e)))
#else
#define EXEMPT(e) owed[1-(e)]
#endif
#define S1(p,e) (ENDOF(p)==(e) && ks[p]!=NONE)
#if NP==4
#define noneasleep(e) (!S1(0,e) && !S1(1,e) && !S1(2,e) && !S1(3,e))
#elif NP==3
#define noneasleep(e) (!S1(0,e) && !S1(1,e) && !S1(2,e))
#else
#define noneasleep(e) (!S1(0,e) && !S1(1,e))
#endif
proctype Monitor() {
  byte p;
end_monitor:
  timeout -> d_step {
    do
    :: p < NP ->
       assert(gone[p] || away[p] || ks[p]!=NONE);                                           /* nobody hangs elsewhere */
       assert(gone[p] || ks[p]==NONE || !hup[ENDOF(p)]);                                    /* hang-up wakes everybody */
       assert(gone[p] || ks[p]==NONE || !COND(p) || EXEMPT(ENDOF(p)));                      /* no lost wake-up */
       p++
    :: else -> break
    od
  }
}

init {
  atomic {
#if CFG==0
    live[0] = 1; live[1] = 2; run Writer(0); run Reader(1); run Reader(2);
#elif CFG==1
    live[0] = 1; live[1] = 2; run Reader(0); run Writer(1); run Writer(2);
#elif CFG==2
    live[0] = 2; live[1] = 2; run Reader(0); run Writer(1); run Reader(2); run Writer(3);
#else
    live[0] = 1; live[1] = 1; run Writer(0); run Reader(1);
#endif
#ifdef KILL
    run Killer();
#endif
    run Monitor()
  }
}

//! Loops on several threads: results, failures, panics, cancellation, deadlock.

use antiphon::{
    Cancelled, CoreErrorKind, CoresError, Event, Failure, RunError, cancellable, channel, cores, run, sleep,
    spawn, yield_now,
};
use std::cell::RefCell;
use std::collections::HashSet;
use std::future::pending;
use std::io::Read;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Barrier, Mutex};
use std::thread;
use std::time::Duration;

const HOUR: Duration = Duration::from_secs(3600);

type Boxed = Box<dyn std::error::Error + Send + Sync>;

#[test]
fn results_come_in_the_order_of_the_cores_each_on_a_thread_of_its_own() {
    let threads = Mutex::new(HashSet::new()); // borrowed from here
    let results = cores(3).run(async |core| {
        threads.lock().unwrap().insert(thread::current().id());
        assert_eq!(core.count(), 3);
        let own = Rc::new(core.index()); // need not be Send
        yield_now().await?;
        Ok::<_, Cancelled>(*own * 10)
    });
    assert_eq!(results.unwrap(), [0, 10, 20]);
    assert_eq!(threads.lock().unwrap().len(), 3);
}

#[test]
fn zero_is_as_many_as_there_are_processors() {
    let results = cores(0).run(async |core| Ok::<_, Cancelled>(core.count())).unwrap();
    assert_eq!(results.len(), thread::available_parallelism().unwrap().get());
}

#[test]
fn first_failure_cancels_the_others_which_clean_up_and_all_errors_are_kept() {
    let begun = Barrier::new(3);
    let log = Mutex::new(Vec::new());
    let outcome = cores(3).run(async |core| -> Result<(), Boxed> {
        begun.wait(); // all of them run
        match core.index() {
            0 => Err("first".into()),
            1 => {
                let error = sleep(HOUR).await.unwrap_err();
                yield_now().await?; // clean-up may await
                log.lock().unwrap().push("cleaned up");
                Err(error.into())
            }
            _ => {
                sleep(HOUR).await.unwrap_err();
                Err("second".into())
            }
        }
    });
    let Err(CoresError::Errors(errors)) = outcome else { panic!("{outcome:?}") };
    let told: Vec<_> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(told, ["core 0: first", "core 2: second"]);
    assert_eq!(*log.lock().unwrap(), ["cleaned up"]);
}

#[test]
fn panic_of_one_ends_all() {
    let begun = Barrier::new(2);
    let outcome = cores(2).run(async |core| {
        begun.wait();
        assert!(core.index() != 1, "on purpose");
        cancellable(pending::<()>()).await
    });
    let Err(CoresError::Errors(errors)) = outcome else { panic!("{outcome:?}") };
    assert_eq!(errors.len(), 1);
    assert!(matches!(&errors[0].kind, CoreErrorKind::Panicked(message) if message == "on purpose"));
}

#[test]
fn tasks_that_a_core_has_left_are_cancelled_when_it_is_stopped() {
    let begun = Barrier::new(2);
    let stopped = Mutex::new(0);
    let outcome = cores(2).run(async |core| -> Result<(), Boxed> {
        if core.index() == 0 {
            begun.wait();
            return Err("stop".into());
        }
        let log = Rc::new(RefCell::new(0));
        let own = Rc::clone(&log);
        let task = spawn(async move {
            let outcome = sleep(HOUR).await;
            *own.borrow_mut() += 1;
            outcome
        });
        yield_now().await?;
        begun.wait();
        let joined = task.await; // the request goes on to the task
        *stopped.lock().unwrap() += *log.borrow();
        Ok(joined.map_err(|_| Cancelled)?)
    });
    assert!(matches!(outcome, Err(CoresError::Errors(errors)) if errors.len() == 1));
    assert_eq!(*stopped.lock().unwrap(), 1);
}

#[test]
fn cancel_all_reaches_a_core_that_sleeps() {
    let (ready, begun) = channel(0);
    let outcome = cores(2).run(async |core| {
        if core.index() == 0 {
            begun.recv().await.unwrap();
            core.cancel_all();
            return Ok(0);
        }
        ready.send(()).await.unwrap();
        cancellable(pending::<()>()).await.map(|()| 1)
    });
    assert!(matches!(outcome, Err(CoresError::Cancelled)), "{outcome:?}");
}

#[test]
fn cancelled_core_may_return_a_value_all_the_same() {
    let begun = Barrier::new(2);
    let outcome = cores(2).run(async |core| {
        begun.wait();
        if core.index() == 0 {
            core.cancel_all();
        }
        Ok::<_, Cancelled>(sleep(HOUR).await.is_err())
    });
    assert_eq!(outcome.unwrap(), [true, true]);
}

#[test]
fn last_core_that_nothing_can_wake_is_a_deadlock() {
    let outcome = cores(2).run(async |core| {
        if core.index() == 1 {
            Event::new().wait().await?;
        }
        Ok::<_, Cancelled>(())
    });
    let Err(CoresError::Errors(errors)) = outcome else { panic!("{outcome:?}") };
    let CoreErrorKind::Loop(RunError::Deadlock { tasks }) = &errors[0].kind else { panic!("{errors:?}") };
    assert_eq!(tasks[0].waits_for, "an event");
}

#[test]
fn cores_inside_of_a_loop_are_refused() {
    run(async {
        let outcome = cores(1).run(async |_| Ok::<_, Cancelled>(()));
        let Err(CoresError::Errors(errors)) = outcome else { panic!("{outcome:?}") };
        assert!(matches!(errors[0].kind, CoreErrorKind::Loop(RunError::Nested)));
    })
    .unwrap();
}

#[test]
fn pinned_cores_run_on_one_processor_each_and_the_caller_stays_free() {
    let before = antiphon_engine::allowed_processors().unwrap();
    let pinned =
        cores(3).pinned().run(async |_| Ok::<_, Cancelled>(antiphon_engine::allowed_processors().unwrap()));
    let expected: Vec<_> = before.iter().cycle().take(3).map(|number| vec![*number]).collect();
    assert_eq!(pinned.unwrap(), expected);
    assert_eq!(antiphon_engine::allowed_processors().unwrap(), before);
}

#[test]
fn messages_go_round_all_cores() {
    const ROUNDS: usize = 1_000;
    let ends: Vec<_> = (0..3).map(|_| channel::<usize>(1)).collect();
    let sums = cores(3).run(async |core| {
        let (own, next) = (&ends[core.index()].1, &ends[(core.index() + 1) % 3].0);
        let mut sum = 0;
        if core.index() == 0 {
            next.send(0).await.unwrap();
        }
        for _ in 0..ROUNDS {
            let n = own.recv().await.unwrap();
            sum += n;
            if n + 1 < 3 * ROUNDS {
                next.send(n + 1).await.unwrap();
            }
        }
        Ok::<_, Cancelled>(sum)
    });
    assert_eq!(sums.unwrap().iter().sum::<usize>(), (0..3 * ROUNDS).sum::<usize>());
}

#[test]
fn kernel_shares_connections_out_between_the_cores_that_listen() {
    const CONNECTIONS: usize = 64; // all at one core: once in 2^63 runs
    let listening = Barrier::new(2);
    let left = AtomicUsize::new(CONNECTIONS);
    let served = cores(2).run(async |core| -> Result<usize, Boxed> {
        let listener = core.listen(([127, 0, 0, 1], 0).into())?;
        let address = listener.local_addr()?;
        listening.wait();
        let clients = (core.index() == 0).then(|| {
            thread::spawn(move || {
                for _ in 0..CONNECTIONS {
                    let mut stream = std::net::TcpStream::connect(address).unwrap();
                    let mut answer = String::new();
                    stream.read_to_string(&mut answer).unwrap();
                    assert!(["0", "1"].contains(&answer.as_str()), "{answer:?}");
                }
            })
        });
        let mut served = 0;
        loop {
            match listener.accept().await {
                Ok((stream, _)) => stream.write_all(core.index().to_string().as_bytes()).await?,
                Err(error) if error.is_cancelled() => break,
                Err(error) => return Err(error.into()),
            }
            served += 1;
            if left.fetch_sub(1, Ordering::SeqCst) == 1 {
                core.cancel_all();
            }
        }
        clients.into_iter().for_each(|clients| clients.join().unwrap());
        Ok(served)
    });
    let served = served.unwrap();
    assert_eq!(served.iter().sum::<usize>(), CONNECTIONS);
    assert!(served.iter().all(|served| *served > 0), "{served:?}");
}

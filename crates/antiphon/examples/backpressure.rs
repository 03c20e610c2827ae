//! A quick producer and slow consumers: the queue's bound makes the producer wait. Prints how far it was ahead at most.

#![allow(clippy::print_stdout)] // it is what the program does

use antiphon::{Cancelled, GroupError, Queue, QueueError, sleep, task_group};
use std::rc::Rc;
use std::time::Duration;

#[antiphon::main]
async fn main() -> Result<(), GroupError> {
    let queue = Rc::new(Queue::bounded(4));
    let ahead = task_group(async |group| {
        for worker in 1..=2_u64 {
            let queue = Rc::clone(&queue);
            group.spawn(async move {
                while let Ok(item) = queue.get().await {
                    let item: u64 = item;
                    sleep(Duration::from_millis(worker + item % 2)).await?;
                }
                Ok::<_, Cancelled>(())
            });
        }
        let mut ahead = 0;
        for item in 0..20 {
            queue.put(item).await?;
            ahead = ahead.max(queue.len());
        }
        queue.shutdown();
        Ok::<_, QueueError>(ahead)
    })
    .await?;
    println!("at most {ahead} items ahead");
    Ok(())
}

//! A crawler that follows the links of a site, each page once and a few at a time; the site is a server of its own.
//!
//! A page that cannot be had ends the crawl: the group cancels the others, waits for them, and gives the error.

use antiphon::{
    Queue, QueueError, ReadError, Semaphore, TcpReader, TcpWriter, open_connection, start_server, task_group,
};
use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::net::SocketAddr;
use std::rc::Rc;

/// Each page of the site, and where its links lead.
const SITE: [(&str, &[&str]); 5] = [
    ("/", &["/news", "/about"]),
    ("/news", &["/", "/news/today", "/news/yesterday"]),
    ("/news/today", &["/news"]),
    ("/news/yesterday", &["/news", "/about"]),
    ("/about", &[]),
];

/// So many pages are fetched at once.
const AT_ONCE: usize = 2;

#[antiphon::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let server = start_server("127.0.0.1:0", serve).await?;
    for (page, links) in crawl(server.addresses()[0]).await? {
        println!("{page} has {links} links");
    }
    Ok(())
}

/// All pages of `site` that can be reached, and how many links each has.
async fn crawl(site: SocketAddr) -> Result<BTreeMap<String, usize>, Box<dyn Error>> {
    let turn = Rc::new(Semaphore::new(AT_ONCE));
    let fetched = Rc::new(Queue::new());
    let pages = task_group(async |group| {
        let mut pages = BTreeMap::new();
        let mut next = vec!["/".to_owned()];
        let mut known: BTreeSet<String> = next.iter().cloned().collect();
        let mut under_way = 0;
        loop {
            for page in next.drain(..) {
                let (turn, fetched) = (Rc::clone(&turn), Rc::clone(&fetched));
                group.spawn(async move {
                    let _turn = turn.acquire().await?;
                    let links = fetch(site, &page).await?;
                    fetched.put((page, links)).await.map_err(|_| ReadError::Cancelled)
                });
                under_way += 1;
            }
            if under_way == 0 {
                return Ok::<_, QueueError>(pages);
            }
            let (page, links): (String, Vec<String>) = fetched.get().await?;
            under_way -= 1;
            pages.insert(page, links.len());
            next.extend(links.into_iter().filter(|link| known.insert(link.clone())));
        }
    });
    Ok(pages.await?)
}

/// Where a page's links lead.
async fn fetch(site: SocketAddr, page: &str) -> Result<Vec<String>, ReadError> {
    let (mut reader, writer) = open_connection(site).await?;
    writer.write_lines(&[b"GET ", page.as_bytes(), b" HTTP/1.0\r\n\r\n"])?;
    reader.read_until(b"\r\n\r\n").await?;
    let body = reader.read_to_end().await?;
    Ok(String::from_utf8_lossy(&body).lines().map(str::to_owned).collect())
}

/// The site: a page's body is its links, one a line.
async fn serve(mut reader: TcpReader, writer: TcpWriter) -> Result<(), ReadError> {
    let head = reader.read_until(b"\r\n\r\n").await?;
    let head = String::from_utf8_lossy(&head);
    let wanted = head.split(' ').nth(1).unwrap_or_default();
    match SITE.iter().find(|(page, _)| *page == wanted) {
        Some((_, links)) => writer.write_lines(&[b"HTTP/1.0 200 OK\r\n\r\n", links.join("\n").as_bytes()])?,
        None => writer.write(b"HTTP/1.0 404 Not Found\r\n\r\n")?,
    }
    writer.close();
    Ok(writer.wait_closed().await?)
}

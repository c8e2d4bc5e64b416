//! A link that can be cut: a TCP relay on loopback.

use std::sync::Arc;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// A relay to a port. It begins cut or open; cutting ends what runs and refuses what comes.
pub struct Link {
    /// Where it listens.
    pub port: u16,
    open: Arc<watch::Sender<bool>>,
}

impl Link {
    /// Relays to `target` on loopback.
    pub async fn to(target: u16, open: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let open = Arc::new(watch::Sender::new(open));
        let state = Arc::clone(&open);
        tokio::spawn(async move {
            while let Ok((mut inner, _)) = listener.accept().await {
                let mut state = state.subscribe();
                if !*state.borrow_and_update() {
                    continue;
                }
                tokio::spawn(async move {
                    let Ok(mut outer) = TcpStream::connect(("127.0.0.1", target)).await else { return };
                    tokio::select! {
                        _ = copy_bidirectional(&mut inner, &mut outer) => {}
                        _ = state.wait_for(|open| !open) => {}
                    }
                });
            }
        });
        Self { port, open }
    }

    /// Cuts the link.
    pub fn cut(&self) {
        self.open.send_replace(false);
    }

    /// Mends it.
    pub fn mend(&self) {
        self.open.send_replace(true);
    }
}

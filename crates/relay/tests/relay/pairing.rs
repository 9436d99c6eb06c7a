//! Groups: machines that show codes of `peerup relay pair`.

use std::collections::BTreeSet;

use peerup_trust::{
    NodeName, Token,
    pairing::{GroupId, Groups, Introduction, Order, Request, Response},
};

use super::*;

#[tokio::test]
async fn members_of_a_group_learn_of_each_other_in_whatever_order_they_come() {
    let relay = serve("", &[]).await;
    let (group, codes) = pair(&relay, 3, Some(3600)).await;
    let mut a = machine(&relay).await;
    assert_eq!(show(&a, &codes[0], "a").await, joined(group, 3, &[]));
    let mut b = machine(&relay).await;
    assert_eq!(show(&b, &codes[1], "b").await, joined(group, 3, &[&a]));
    introduced(&mut a, &[b.id]).await;
    // Away while the third one comes.
    let (a_keypair, a_id) = a.leave().await;
    let c = machine(&relay).await;
    assert_eq!(members(show(&c, &codes[2], "c").await), BTreeSet::from([a_id, b.id]));
    introduced(&mut b, &[a_id, c.id]).await;
    let mut a = machine_of(a_keypair, &relay).await;
    introduced(&mut a, &[b.id, c.id]).await;

    let keys = fs::read_to_string(relay.keys()).unwrap();
    let line = keys.lines().find(|line| line.starts_with(&c.id.to_string())).unwrap();
    assert!(line.contains(&format!("group={group}  # c")) && line.contains("expires=20"), "{line}");
    let (c_keypair, _) = c.leave().await;
    assert!(reserve(&mut node_of(c_keypair), &relay).await);
}

#[tokio::test]
async fn a_code_is_for_one_machine_and_every_failure_sounds_alike() {
    let relay = serve("", &[]).await;
    let (group, codes) = pair(&relay, 2, None).await;
    let (winner, late) = (machine(&relay).await, machine(&relay).await);
    assert_eq!(show(&winner, &codes[0], "nas").await, joined(group, 2, &[]));
    assert_eq!(show(&winner, &codes[0], "nas").await, joined(group, 2, &[]), "its answer may have been lost");
    let refused = Response::Refused("pairing failed".into());
    assert_eq!(show(&late, &codes[0], "x").await, refused);
    assert_eq!(show(&late, &Token::new([9; 16]), "x").await, refused);
    let keys = fs::read_to_string(relay.keys()).unwrap();
    assert!(!keys.contains(&late.id.to_string()), "{keys}");
}

#[tokio::test]
async fn three_wrong_codes_end_the_connection_of_a_stranger_and_not_that_of_others() {
    let relay = serve("", &[]).await;
    let (group, codes) = pair(&relay, 1, None).await;
    let (guesser, honest) = (machine(&relay).await, machine(&relay).await);
    for _ in 0..2 {
        assert!(matches!(show(&guesser, &Token::new([9; 16]), "x").await, Response::Refused(_)));
    }
    assert!(try_show(&guesser, &Token::new([9; 16]), "x").await.is_err());
    timeout(SECOND, guesser.task).await.expect("the connection ends").unwrap();
    assert_eq!(show(&honest, &codes[0], "nas").await, joined(group, 1, &[]));
}

#[tokio::test]
async fn strangers_are_let_in_only_while_codes_are_open() {
    let relay = serve("", &[]).await;
    assert!(!can_ask(&relay).await);
    let (_, codes) = pair(&relay, 1, None).await;
    let member = machine(&relay).await;
    assert!(can_ask(&relay).await);
    assert!(matches!(show(&member, &codes[0], "a").await, Response::Joined { .. }));
    assert!(!can_ask(&relay).await, "the only code is used");
    pair(&relay, 1, None).await;
    write_private_atomic(&relay.codes(), b"").unwrap();
    relay.commands.send(Command::Reload).await.unwrap();
    let refused = async { while can_ask(&relay).await {} };
    timeout(DEADLINE, refused).await.expect("the door is shut");
}

#[tokio::test]
async fn a_file_of_codes_that_makes_no_sense_opens_nothing() {
    let relay = serve("", &[]).await;
    write_private_atomic(&relay.codes(), b"open sesame\n").unwrap();
    relay.commands.send(Command::Reload).await.unwrap();
    assert!(!can_ask(&relay).await);
}

/// A machine that is connected to the relay and notes whom it is introduced to, until the connection ends.
struct Machine {
    id: PeerId,
    keypair: Keypair,
    relay: PathHandle,
    introductions: mpsc::Receiver<Introduction>,
    task: JoinHandle<()>,
}

impl Machine {
    async fn leave(self) -> (Keypair, PeerId) {
        self.task.abort();
        let _ = self.task.await;
        (self.keypair, self.id)
    }
}

impl Served {
    fn codes(&self) -> PathBuf {
        self.dir.path().join(".relay-pairing")
    }
}

/// What `peerup relay pair` does.
async fn pair(relay: &Served, codes: u8, members_s: Option<u64>) -> (GroupId, Vec<Token<16>>) {
    let now = peerup_clock::unix();
    let members_until = members_s.map(|seconds| now + seconds);
    let order = Order { codes, until: now + 600, members_until, network: None };
    let mut groups = Groups::default();
    let made = groups.create(order, now, &mut rand::rng()).unwrap();
    write_private_atomic(&relay.codes(), groups.to_text().as_bytes()).unwrap();
    relay.commands.send(Command::Reload).await.unwrap();
    let open = async { while !can_ask(relay).await {} };
    timeout(DEADLINE, open).await.expect("the door opens");
    made
}

async fn machine(relay: &Served) -> Machine {
    machine_of(Keypair::generate_ed25519(), relay).await
}

async fn machine_of(keypair: Keypair, relay: &Served) -> Machine {
    let mut node = node_of(keypair.clone());
    let id = node.local_peer();
    node.set_admission(Admission { infrastructure: BTreeSet::from([relay.id]), ..Admission::default() });
    let path = dial(&mut node, relay).await.expect("the relay lets it in");
    let (sender, introductions) = mpsc::channel(8);
    let own = path.path;
    let task = tokio::spawn(async move {
        loop {
            match node.next_event().await {
                Event::Inbound(inbound) => {
                    assert_eq!(inbound.protocol.as_ref(), protocol::PEER_NOTIFY);
                    let sender = sender.clone();
                    tokio::spawn(async move {
                        let (mut stream, mut bytes) = (inbound.stream, Vec::new());
                        stream.read_to_end(&mut bytes).await.unwrap();
                        sender.send(Introduction::parse(&bytes).unwrap()).await.unwrap();
                    });
                }
                // Others come and go: the relay tests whether this machine can be reached.
                Event::PathClosed { path, .. } if path == own => return,
                _ => {}
            }
        }
    });
    Machine { id, keypair, relay: path, introductions, task }
}

async fn dial(node: &mut PeerSwarm, relay: &Served) -> Option<PathHandle> {
    let address = relay.address.clone().with(Protocol::P2p(relay.id));
    node.dial(relay.id, vec![address]).unwrap();
    until(node, |event| match event {
        Event::PathOpened(path) => Some(Some(path.clone())),
        Event::DialFailed { .. } => Some(None),
        _ => None,
    })
    .await
}

/// Whether a stranger is answered. A connection that is refused seems open for a moment.
async fn can_ask(relay: &Served) -> bool {
    let mut stranger = node_of(Keypair::generate_ed25519());
    let Some(path) = dial(&mut stranger, relay).await else { return false };
    let wrong = Token::new([9; 16]);
    let driven = async {
        loop {
            stranger.next_event().await;
        }
    };
    tokio::select! {
        answer = ask_on(&path, &wrong, "x") => answer.is_ok(),
        () = driven => unreachable!(),
    }
}

async fn show(machine: &Machine, token: &Token<16>, name: &str) -> Response {
    try_show(machine, token, name).await.unwrap()
}

async fn try_show(machine: &Machine, token: &Token<16>, name: &str) -> std::io::Result<Response> {
    ask_on(&machine.relay, token, name).await
}

async fn ask_on(path: &PathHandle, token: &Token<16>, name: &str) -> std::io::Result<Response> {
    let exchange = async {
        let mut stream = path.open(protocol::RELAY_PAIR).await.map_err(std::io::Error::other)?;
        let request = Request { token: token.clone(), name: NodeName::sanitise(name) };
        stream.write_all(&request.encode()).await?;
        stream.close().await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        Response::parse(&answer).map_err(std::io::Error::other)
    };
    timeout(DEADLINE, exchange).await.expect("an answer or an error in time")
}

fn joined(group: GroupId, size: u8, members: &[&Machine]) -> Response {
    let name = NodeName::sanitise("a");
    let members =
        members.iter().map(|machine| peerup_trust::pairing::Member { peer: machine.id, name: name.clone() });
    Response::Joined { group, size, members: members.collect() }
}

fn members(response: Response) -> BTreeSet<PeerId> {
    let Response::Joined { members, .. } = response else { panic!("refused") };
    members.into_iter().map(|member| member.peer).collect()
}

/// Waits for an introduction to exactly these. One that names fewer may come before.
async fn introduced(machine: &mut Machine, to: &[PeerId]) {
    let expected: BTreeSet<PeerId> = to.iter().copied().collect();
    let told = async {
        loop {
            let introduction = machine.introductions.recv().await.unwrap();
            assert_eq!(usize::from(introduction.members_in_all), introduction.members.len() + 1);
            let members: BTreeSet<PeerId> = introduction.members.iter().map(|member| member.peer).collect();
            assert!(members.is_subset(&expected), "{members:?}");
            if members == expected {
                return;
            }
        }
    };
    timeout(DEADLINE, told).await.expect("introduced in time");
}

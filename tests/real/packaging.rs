//! What is in `packaging/` says the same as the program: its command lines are right, ports, paths and users agree.
//!
//! No container, cluster or service is started. What systemd thinks of its unit is asked where it is installed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Parser;
use serde_json::Value as Json;
use tidelock::NodeConfig;
use tidelock::cli::{Cli, ClientCommand, Command as Verb, PortArg, RunArgs};

const PROGRAM: &str = env!("CARGO_BIN_EXE_tidelock");

/// Where the images and the unit have the program.
const INSTALLED: &str = "/usr/local/bin/tidelock";

/// Stands for the ids that an operator fills in.
const PEER: &str = "12D3KooWPeBBDJ1zvK7yrL7WcTfeRwhsxe2Cy39L7JKjG4THx5FM";

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging")
}

fn text(name: &str) -> String {
    fs::read_to_string(folder().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn documents(name: &str) -> Vec<Json> {
    serde_saphyr::from_multiple(&text(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn words(list: &Json) -> Vec<String> {
    let list = list.as_array().unwrap_or_else(|| panic!("{list} is no list"));
    list.iter().map(|word| word.as_str().expect("a word").to_owned()).collect()
}

/// What the program makes of a command line, with ids filled in.
fn verb(words: &[String]) -> Verb {
    let fill = |word: &String| match word.strip_prefix("--allow=") {
        Some(id) if id.starts_with("${PEER_") || id.starts_with("ID-") => format!("--allow={PEER}"),
        _ => word.clone(),
    };
    let line = std::iter::once("tidelock".to_owned()).chain(words.iter().map(fill));
    Cli::try_parse_from(line).unwrap_or_else(|error| panic!("{words:?}: {error}")).command
}

fn run_args(words: &[String]) -> RunArgs {
    match verb(words) {
        Verb::Run(args) => args,
        other => panic!("{words:?} runs no node: {other:?}"),
    }
}

/// A probe asks the node on its usual port, and fails if that does not answer.
fn assert_probe(words: &[String]) {
    assert_eq!(words[0], INSTALLED);
    let Verb::Client(ClientCommand::Status(node) | ClientCommand::Ready(node)) = verb(&words[1..]) else {
        panic!("{words:?} is no probe")
    };
    assert_eq!(node.node, NodeConfig::default().redis.address.to_string());
}

/// The settings are valid together, and the ports are the usual ones.
fn assert_member(args: &RunArgs, members: usize) {
    let config = NodeConfig {
        listen: args.listen.clone(),
        peers: args.peer.clone(),
        allow: args.allow.iter().map(ToString::to_string).collect(),
        ..NodeConfig::default()
    };
    config.validate().expect("settings that work");
    let usual = &NodeConfig::default().listen[0];
    let port = usual.rsplit_once("/ip4/127.0.0.1").expect("it is on loopback").1;
    for address in args.listen.iter().chain(&args.peer) {
        assert!(address.ends_with(port), "{address} is not on {port}");
    }
    // Ids are equal here: they were filled in.
    assert_eq!(args.allow.len(), members, "each member is admitted");
}

/// The values of an instruction of a Dockerfile.
fn instructions<'a>(dockerfile: &'a str, name: &str) -> Vec<&'a str> {
    let found = dockerfile.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    found.collect()
}

fn json_words(text: &str) -> Vec<String> {
    words(&serde_json::from_str(text).unwrap_or_else(|error| panic!("{text}: {error}")))
}

#[test]
fn image_runs_a_node_as_nobody_in_particular() {
    let dockerfile = text("Dockerfile");
    let one = |name| match instructions(&dockerfile, name)[..] {
        [one] => one,
        ref other => panic!("{name}: {other:?}"),
    };
    assert_eq!(json_words(one("ENTRYPOINT")), [INSTALLED]);
    let args = run_args(&json_words(one("CMD")));
    assert_eq!(args.data.expect("a directory").to_str(), Some(one("VOLUME")));
    let (_, probe) = one("HEALTHCHECK").split_once(" CMD ").expect("a command");
    assert_probe(&json_words(probe));
    let (user, _) = one("USER").split_once(':').expect("user and group");
    assert!(user.parse::<u32>().expect("a number, which Kubernetes can check") > 0);
    assert!(dockerfile.contains(&format!("--chown={}", one("USER"))), "the volume is the user's");
    let NodeConfig { redis, http, .. } = NodeConfig::default();
    let ports = format!("7400/tcp 7400/udp {}/tcp {}/tcp", redis.address.port(), http.address.port());
    assert_eq!(one("EXPOSE"), ports);
    // Each of them is made with a compiler that is new enough.
    let manifest = fs::read_to_string(folder().join("../Cargo.toml")).expect("it is ours");
    let version =
        manifest.lines().find_map(|line| line.strip_prefix("rust-version = \"")).expect("it is said");
    let version = version.trim_end_matches('"');
    assert!(dockerfile.contains(&format!("FROM rust:{version}-slim")), "the compiler is {version}");
}

#[test]
fn composed_nodes_know_each_other() {
    let compose = documents("compose.yaml").pop().expect("one document");
    let services = compose["services"].as_object().expect("services");
    assert_eq!(services.len(), 3);
    let mut published = Vec::new();
    for (name, service) in services {
        let args = run_args(&words(&service["command"]));
        assert_member(&args, services.len());
        let mut dialled: Vec<&str> =
            args.peer.iter().filter_map(|peer| peer.strip_prefix("/dns4/")?.split('/').next()).collect();
        dialled.push(name);
        dialled.sort_unstable();
        assert_eq!(dialled, services.keys().collect::<Vec<_>>(), "{name} dials the others");
        let data = args.data.expect("a directory");
        assert_eq!(words(&service["volumes"]), [format!("{name}:{}", data.display())]);
        assert!(compose["volumes"].get(name).is_some(), "{name} has a volume");
        let Some(PortArg::At(redis)) = args.redis else { panic!("{name} has a Redis port") };
        let ports = words(&service["ports"]);
        let [port] = &ports[..] else { panic!("{ports:?}") };
        let (host, container) = port.rsplit_once(':').expect("two ports");
        assert_eq!(container, redis.port().to_string());
        // Without a password nobody but this machine may reach it.
        assert!(host.starts_with("127.0.0.1:"), "{port}");
        published.push(host.to_owned());
        assert_eq!((&service["image"], &service["read_only"]), (&"tidelock".into(), &true.into()), "{name}");
    }
    published.dedup();
    assert_eq!(published.len(), services.len(), "no two nodes have the same port: {published:?}");
}

#[test]
fn pods_know_each_other_and_are_probed() {
    let documents = documents("kubernetes.yaml");
    let of_kind = |kind: &str| {
        let found = documents.iter().find(|document| document["kind"] == kind);
        found.unwrap_or_else(|| panic!("there is no {kind}"))
    };
    let (service, set) = (of_kind("Service"), &of_kind("StatefulSet")["spec"]);
    let name = service["metadata"]["name"].as_str().expect("a name");
    assert_eq!((&set["serviceName"], &service["spec"]["clusterIP"]), (&name.into(), &"None".into()));
    let labels = &set["template"]["metadata"]["labels"];
    for selector in [
        &set["selector"]["matchLabels"],
        &service["spec"]["selector"],
        &of_kind("PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
    ] {
        assert_eq!(selector, labels);
    }
    let replicas = usize::try_from(set["replicas"].as_u64().expect("a number")).expect("it is small");
    let pod = &set["template"]["spec"];
    let container = &pod["containers"][0];
    let args = run_args(&words(&container["args"]));
    assert_member(&args, replicas);
    let peers: Vec<String> =
        (0..replicas).map(|number| format!("/dns4/{name}-{number}.{name}/tcp/7400")).collect();
    assert_eq!(args.peer, peers);
    assert_eq!(container["ports"][0]["containerPort"], service["spec"]["ports"][0]["port"]);
    assert_eq!(container["ports"][0]["name"], service["spec"]["ports"][0]["targetPort"]);
    for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
        assert_probe(&words(&container[probe]["exec"]["command"]));
    }
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
    let volume = set["volumeClaimTemplates"][0]["metadata"]["name"].as_str().expect("a name");
    assert_eq!(container["volumeMounts"][0]["name"], volume);
    let mounted = container["volumeMounts"][0]["mountPath"].as_str().expect("a path");
    let data = args.data.expect("a directory");
    assert!(data.starts_with(mounted), "{} is on the volume", data.display());
    // The key is put where the node looks for it.
    let copy = pod["initContainers"][0]["args"][0].as_str().expect("a script");
    assert!(copy.ends_with(&format!("{}/key", data.display())), "{copy}");
}

#[test]
fn unit_runs_a_node_that_can_write_in_one_place() {
    let unit = text("tidelock.service");
    let value = |name: &str| {
        let found = unit.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        found.unwrap_or_else(|| panic!("there is no {name}"))
    };
    let line: Vec<String> = value("ExecStart").split(' ').map(str::to_owned).collect();
    assert_eq!(line[0], INSTALLED);
    let args = run_args(&line[1..]);
    let state = format!("/var/lib/{}", value("StateDirectory"));
    assert_eq!(args.data.expect("a directory").to_str(), Some(state.as_str()));
    assert_eq!(args.config.expect("a file").file_name(), Some("tidelock.toml".as_ref()));
    let hardened = [("DynamicUser", "yes"), ("NoNewPrivileges", "yes"), ("ProtectSystem", "strict")];
    for (name, expected) in hardened {
        assert_eq!(value(name), expected, "{name}");
    }
    // Each client and each peer is a file.
    let files: usize = value("LimitNOFILE").parse().expect("a number");
    assert!(files > NodeConfig::default().redis.clients_max + 1_000);
}

#[test]
fn systemd_accepts_the_unit() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("tidelock.service");
    // It looks whether the program is there.
    fs::write(&path, text("tidelock.service").replace(INSTALLED, PROGRAM)).expect("the folder is ours");
    match Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&path).output() {
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            let about_it: Vec<&str> = said.lines().filter(|line| line.contains("tidelock.service")).collect();
            assert!(about_it.is_empty(), "{about_it:#?}");
        }
        Err(error) => eprintln!("skipped: there is no systemd-analyze: {error}"),
    }
}

#[test]
fn settings_are_the_defaults() {
    let config = NodeConfig::from_toml(&text("tidelock.toml")).expect("settings that exist");
    config.validate().expect("settings that work");
    assert_eq!(config, NodeConfig::default());
}

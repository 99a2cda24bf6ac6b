//! The decoder: any split of the input gives the same commands, and no input makes it hold much.

use proptest::prelude::*;

use super::array;
use crate::redis::{
    ARGUMENT_OVERHEAD_BYTES, Command, Decoder, INLINE_BYTES_MAX, ProtocolError, RedisConfig, TooLong,
};

type Commands = Vec<Vec<Vec<u8>>>;

/// Feeds the pieces in turn; answers the commands, and the error that ended it, if one did.
fn decode<'a>(
    config: &RedisConfig,
    pieces: impl Iterator<Item = &'a [u8]>,
) -> (Commands, Option<ProtocolError>) {
    let mut decoder = Decoder::new(config);
    let mut commands = Vec::new();
    for mut piece in pieces {
        loop {
            match decoder.decode(&mut piece) {
                Ok(Some(command)) => commands.push(command.arguments),
                Ok(None) => break,
                Err(error) => return (commands, Some(error)),
            }
        }
    }
    (commands, None)
}

fn whole(bytes: &[u8]) -> (Commands, Option<ProtocolError>) {
    decode(&RedisConfig::default(), std::iter::once(bytes))
}

/// A pipeline of arrays and inline commands.
fn pipeline() -> impl Strategy<Value = (Vec<u8>, Commands)> {
    let arguments = prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 1..5);
    let as_array = arguments.prop_map(|arguments| (array(&arguments), vec![arguments]));
    let words = prop::collection::vec("[a-z0-9]{1,8}", 0..4);
    let as_line = words.prop_map(|words| {
        let command: Vec<Vec<u8>> = words.iter().map(|word| word.clone().into_bytes()).collect();
        let commands = if command.is_empty() { vec![] } else { vec![command] };
        (format!("{}\r\n", words.join(" ")).into_bytes(), commands)
    });
    let nothing = prop::sample::select(vec!["*0\r\n", "*-1\r\n", "\r\n", "\n"])
        .prop_map(|bytes| (bytes.as_bytes().to_vec(), vec![]));
    prop::collection::vec(prop_oneof![as_array, as_line, nothing], 0..12).prop_map(|parts| {
        let (bytes, commands): (Vec<_>, Vec<_>) = parts.into_iter().unzip();
        (bytes.concat(), commands.concat())
    })
}

proptest! {
    #[test]
    fn any_split_decodes_to_the_same_commands(
        (bytes, commands) in pipeline(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..10),
    ) {
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        let pieces = cuts.windows(2).map(|cut| &bytes[cut[0]..cut[1]]);
        prop_assert_eq!(decode(&RedisConfig::default(), pieces), (commands.clone(), None));
        prop_assert_eq!(decode(&RedisConfig::default(), bytes.chunks(1)), (commands, None));
    }

    #[test]
    fn garbage_gives_the_same_end_however_it_is_split(bytes in prop::collection::vec(
        prop_oneof![prop::sample::select(b"*$+-0123456789\r\n\"' ".to_vec()), any::<u8>()], 0..200,
    )) {
        prop_assert_eq!(decode(&RedisConfig::default(), bytes.chunks(1)), whole(&bytes));
    }

    #[test]
    fn half_sent_command_holds_no_more_than_came(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut input = b"*1000000\r\n$3\r\nSET\r\n$16000000\r\n".to_vec();
        input.extend(&bytes);
        let mut decoder = Decoder::new(&RedisConfig::default());
        prop_assert_eq!(decoder.decode(&mut input.as_slice()), Ok(None));
        prop_assert_eq!(decoder.held_bytes(), "SET".len() + ARGUMENT_OVERHEAD_BYTES + bytes.len());
    }
}

#[test]
fn broken_input_is_answered_as_redis_answers_it() {
    let cases: [(&[u8], &str); 18] = [
        (b"*1000000000\r\n", "Protocol error: invalid multibulk length"),
        (b"*99999999999999999999\r\n", "Protocol error: invalid multibulk length"),
        (b"*x\r\n", "Protocol error: invalid multibulk length"),
        (b"*\r\n", "Protocol error: invalid multibulk length"),
        (b"*+1\r\n", "Protocol error: invalid multibulk length"),
        (b"*1\r\n$99999999999\r\n", "Protocol error: invalid bulk length"),
        (b"*1\r\n$-1\r\n", "Protocol error: invalid bulk length"),
        (b"*1\r\n$x\r\n", "Protocol error: invalid bulk length"),
        (b"*1\r\n$536870913\r\n", "Protocol error: invalid bulk length"),
        (b"*2\r\n*1\r\n$4\r\nPING\r\n", "Protocol error: expected '$', got '*'"),
        (b"*1\r\n:5\r\n", "Protocol error: expected '$', got ':'"),
        (b"*1\r\n\xff", "Protocol error: expected '$', got '\\xff'"),
        (b"*1\r\n$4\r\nPINGPONG", "Protocol error: expected CRLF behind a bulk string"),
        (b"*1\r\n$4\r\nPING\rX", "Protocol error: expected CRLF behind a bulk string"),
        (b"set k \"v\r\n", "Protocol error: unbalanced quotes in request"),
        (b"set k \"v\"w\r\n", "Protocol error: unbalanced quotes in request"),
        (&[b'*'; 70], "Protocol error: too big mbulk count string"),
        (
            b"*1\r\n$0000000000000000000000000000000000000000000000000000000000000000000",
            "Protocol error: too big bulk count string",
        ),
    ];
    for (bytes, text) in cases {
        let (commands, error) = whole(bytes);
        assert_eq!(error.map(|error| error.to_string()).as_deref(), Some(text), "{}", bytes.escape_ascii());
        assert!(commands.is_empty());
    }
}

#[test]
fn commands_before_broken_input_are_decoded() {
    let (commands, error) = whole(b"*1\r\n$4\r\nPING\r\nECHO hi\r\n*x\r\n");
    assert_eq!(commands, [vec![b"PING".to_vec()], vec![b"ECHO".to_vec(), b"hi".to_vec()]]);
    assert_eq!(error, Some(ProtocolError::ArrayLength));
}

#[test]
fn nested_arrays_end_at_the_second_star() {
    let (commands, error) = whole(&b"*1\r\n".repeat(1_000_000));
    assert_eq!((commands.len(), error), (0, Some(ProtocolError::NotBulk(b'*'))));
}

#[test]
fn limits_hold_at_the_bound_and_not_one_past_it() {
    let config = RedisConfig {
        bulk_bytes_max: 100,
        array_elements_max: 3,
        command_bytes_max: 250,
        ..RedisConfig::default()
    };
    let decode = |mut bytes: &[u8]| {
        let mut decoder = Decoder::new(&config);
        let command = decoder.decode(&mut bytes)?.expect("it is whole");
        assert!(bytes.is_empty() && decoder.held_bytes() == 0);
        assert_eq!(command.too_long.is_some(), command.arguments.is_empty());
        Ok(command.too_long)
    };
    let too_long = Ok(Some(TooLong::Command(250)));
    let words =
        |lengths: &[usize]| array(&lengths.iter().map(|length| "x".repeat(*length)).collect::<Vec<_>>());
    assert_eq!(decode(&words(&[100])), Ok(None));
    assert_eq!(decode(&words(&[101])), Ok(Some(TooLong::Argument { bytes: 101, bytes_max: 100 })));
    assert_eq!(decode(&words(&[1, 1, 1])), Ok(None));
    assert_eq!(decode(&words(&[1, 1, 1, 1])), Err(ProtocolError::ArrayLength));
    assert_eq!(decode(&words(&[100, 54, 0])), Ok(None));
    assert_eq!(decode(&words(&[100, 55, 0])), too_long);
    assert_eq!(decode(format!("{}\r\n", "x".repeat(218)).as_bytes()), Ok(None));
    assert_eq!(decode(format!("{}\r\n", "x".repeat(219)).as_bytes()), too_long);
}

/// It is read to its end, and the next command is understood.
#[test]
fn nothing_is_kept_of_a_command_that_is_too_long() {
    let config = RedisConfig { bulk_bytes_max: 10, ..RedisConfig::default() };
    let bytes = [array(&["SET", "k", &"v".repeat(5_000), "NX"]), array(&["PING"])].concat();
    for step in [1, 7, 100, bytes.len()] {
        let mut decoder = Decoder::new(&config);
        let mut commands: Vec<Command> = Vec::new();
        for mut piece in bytes.chunks(step) {
            while let Some(command) = decoder.decode(&mut piece).expect("it is well formed") {
                commands.push(command);
            }
            assert!(decoder.held_bytes() < 100, "{} bytes are held", decoder.held_bytes());
        }
        let [refused, ping] = &commands[..] else { panic!("{commands:?}") };
        assert_eq!(refused.too_long, Some(TooLong::Argument { bytes: 5_000, bytes_max: 10 }));
        assert!(refused.arguments.is_empty());
        assert_eq!(ping.arguments, [b"PING"]);
    }
}

#[test]
fn inline_command_is_bounded_with_and_without_its_end() {
    let fits = "x".repeat(INLINE_BYTES_MAX);
    assert_eq!(whole(format!("{fits}\r\n").as_bytes()), (vec![vec![fits.clone().into_bytes()]], None));
    assert_eq!(whole(format!("{fits}\n").as_bytes()).0.len(), 1);
    assert_eq!(whole(format!("{fits}x\r\n").as_bytes()).1, Some(ProtocolError::Inline));
    assert_eq!(whole(format!("{fits}xx").as_bytes()).1, Some(ProtocolError::Inline));
    assert_eq!(whole(fits.as_bytes()), (vec![], None));
}

/// A quadratic decoder would need minutes here.
#[test]
fn cost_is_linear_when_input_drips_in() {
    let mut bytes = b"*2\r\n$3\r\nGET\r\n$4000000\r\n".to_vec();
    bytes.resize(bytes.len() + 4_000_000, b'x');
    bytes.extend_from_slice(b"\r\n");
    let (commands, error) = decode(&RedisConfig::default(), bytes.chunks(1));
    assert_eq!((commands.len(), error), (1, None));
    let many = array(&vec!["x"; 200_000]);
    assert_eq!(decode(&RedisConfig::default(), many.chunks(1)).0[0].len(), 200_000);
}

import Testing

/// Tests of the built daemon as a process, against a real broker. They run one after the other: each has the machine to itself.
@Suite(.serialized, .timeLimit(.minutes(15))) struct DaemonProcessTests {}

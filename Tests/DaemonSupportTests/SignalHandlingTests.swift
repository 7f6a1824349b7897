import DaemonSupport
import Glibc
import Testing

@Suite(.serialized)
struct SignalHandlingTests {
  @Test(.timeLimit(.minutes(1)))
  func signalsComeThroughTheStreamInsteadOfEndingTheProcess() async {
    var signals = ProcessSignal.stream().makeAsyncIterator()
    for signal in [ProcessSignal.hangup, .terminate, .interrupt, .hangup] {
      kill(getpid(), signal.number)
      #expect(await signals.next() == signal)
    }
  }

  @Test func aClosedPipeIsAnErrorOfTheWrite() {
    signal(SIGPIPE, SIG_DFL)
    ProcessSignal.ignoreBrokenPipes()
    var ends: [Int32] = [0, 0]
    #expect(pipe(&ends) == 0)
    close(ends[0])
    #expect(write(ends[1], "x", 1) == -1)
    #expect(errno == EPIPE)
    close(ends[1])
  }
}

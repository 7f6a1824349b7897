import NIOCore
import NIOHTTPTypes

/// Closes a connection whose request does not arrive whole in time, or whose body is longer than allowed.
///
/// Hummingbird's idle timeout covers a connection that sends nothing; this one covers a client that goes on sending, slowly or for ever.
final class RequestLimitsHandler: ChannelInboundHandler, RemovableChannelHandler {
  typealias InboundIn = HTTPRequestPart
  typealias InboundOut = HTTPRequestPart

  private let bodyBytes: Int
  private let readTime: TimeAmount
  private var received = 0
  private var deadline: Scheduled<Void>?

  init(bodyBytes: Int, readTime: TimeAmount) {
    self.bodyBytes = bodyBytes
    self.readTime = readTime
  }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    switch unwrapInboundIn(data) {
    case .head:
      received = 0
      deadline = context.eventLoop.assumeIsolated().scheduleTask(in: readTime) { context.close(promise: nil) }
    case .body(let buffer):
      received += buffer.readableBytes
      guard received <= bodyBytes else {
        context.close(promise: nil)
        return
      }
    case .end:
      cancelDeadline()
    }
    context.fireChannelRead(data)
  }

  func channelInactive(context: ChannelHandlerContext) {
    cancelDeadline()
    context.fireChannelInactive()
  }

  func handlerRemoved(context: ChannelHandlerContext) {
    cancelDeadline()
  }

  private func cancelDeadline() {
    deadline?.cancel()
    deadline = nil
  }
}

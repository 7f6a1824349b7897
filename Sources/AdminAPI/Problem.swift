import HTTPTypes
import Hummingbird

/// An error as a client sees it: problem details (RFC 9457) whose words never repeat the request's.
struct Problem: Error {
  let status: HTTPResponse.Status
  let detail: String
  private let headers: HTTPFields

  init(_ status: HTTPResponse.Status, _ detail: String, headers: HTTPFields = [:]) {
    self.status = status
    self.detail = detail
    self.headers = headers
  }

  init(_ failure: Route.Failure) {
    switch failure {
    case .notFound:
      self.init(.notFound, "There is no such resource.")
    case .invalidEncoding:
      self.init(.badRequest, "The path is not valid percent-encoded UTF-8.")
    case .methodNotAllowed(let methods):
      let allowed = methods.map(\.rawValue).joined(separator: ", ")
      self.init(.methodNotAllowed, "The resource does not have this method.", headers: [.allow: allowed])
    }
  }

  static let limit = Problem(.badRequest, "'limit' is a whole number from 1 to \(ListOptions.maximumLimit).")

  /// What a look-up threw.
  init(_ error: any Error) {
    switch (error as? LookupError)?.code {
    case .notFound: self.init(.notFound, "There is no such user or item.")
    case .unavailable: self.init(.serviceUnavailable, "The daemon cannot answer this now.")
    case .failed, nil: self.init(.internalServerError, "The daemon failed to answer; its log says why.")
    }
  }

  var response: Response {
    struct Body: Encodable {
      let type = "about:blank"
      let title: String
      let status: Int
      let detail: String
    }
    let body = Body(title: status.reasonPhrase, status: status.code, detail: detail)
    guard var response = try? AdminResponder.json(body, status: status, type: "application/problem+json") else {
      return Response(status: status, headers: headers)
    }
    for header in headers { response.headers[header.name] = header.value }
    return response
  }
}

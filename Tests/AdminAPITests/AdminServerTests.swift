import AdminAPI
import Foundation
import Glibc
import Logging
import ServiceLifecycle
import TestSupport
import Testing

@Suite(.timeLimit(.minutes(2)))
struct AdminServerTests {
  @Test func healthReadinessAndMetricsAnswer() async throws {
    let daemon = PlayedDaemon()
    try await withServer(daemon) { client in
      let health = await client.get("/healthz")
      #expect(health.status == 200)
      #expect(health.text == "ok\n")

      let ready = await client.get("/readyz")
      #expect(ready.status == 200)
      #expect(ready.text == #"{"ready":true,"reasons":[]}"#)
      daemon.reasons = ["the state is being restored"]
      let unready = await client.get("/readyz")
      #expect(unready.status == 503)
      #expect(unready.text == #"{"ready":false,"reasons":["the state is being restored"]}"#)
      #expect(await client.get("/healthz").status == 200)

      let metrics = await client.get("/metrics")
      #expect(metrics.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8")
      #expect(metrics.text == "# TYPE rodpod_x_total counter\nrodpod_x_total 1\n")
    }
  }

  @Test func lookUpsGiveTheirDocumentedJSON() async throws {
    let daemon = PlayedDaemon()
    try await withServer(daemon) { client in
      let list = await client.get("/v1/users/u1/recommendations")
      #expect(list.headers["content-type"] == "application/json")
      #expect(
        list.text == #"{"generated_at":"2023-11-14T22:13:20.500Z","items":[{"item":"a/b","score":1.5,"title":"A & B"}],"#
          + #""model":3,"revision":7,"source":"published","user":"u1"}"#)
      #expect(
        await client.get("/v1/users/u1").text
          == #"{"changes":[{"generated_at":"1970-01-01T00:00:00.000Z","model":4,"moves":[{"item":"came","title":"T","to":1},"#
          + #"{"from":1,"item":"fell","to":2},{"from":2,"item":"left"}],"revision":8}],"#
          + #""sequence":[{"item":"i","time":"1970-01-01T00:00:00.000Z","type":"view"}],"user":"u1"}"#)
      #expect(
        await client.get("/v1/users/u1/recommendations?explain=true").text.hasPrefix(
          #"{"generated_at":"2023-11-14T22:13:20.500Z","items":[{"id_share":0.75,"item":"a/b","nearest":[{"item":"of the sequence","score":0.5}],"#
            + #""parts":{"bias":0.25,"encoder":1,"neighbourhood":0.25},"score":1.5,"title":"A & B"}]"#))
      #expect(
        await client.get("/v1/items/i1").text
          == #"{"available":true,"categories":["c"],"features":{"text":384},"item":"i1","price":39.9,"title":"T"}"#)
      #expect(await client.get("/v1/items/i1/similar?limit=5").text == #"{"item":"i1","items":[{"item":"near","score":0.9}]}"#)
      #expect(
        await client.get("/v1/model").text
          == #"{"hyperparameters":{"hidden_size":"64"},"items":2,"parameters":12,"steps":100,"version":3}"#)
      let forgotten = await client.send("DELETE", "/v1/users/u1")
      #expect(forgotten.status == 204)
      #expect(forgotten.body.isEmpty)
    }
    #expect(
      daemon.asked == [
        "recommendations u1 20", "user u1", "recommendations u1 20 explained", "item i1", "similar i1 5", "model", "forget u1",
      ])
  }

  @Test(arguments: [
    ("a%2Fb", "a/b"), ("%2Fv1%2Fmodel", "/v1/model"), ("caf%C3%A9", "café"), ("%F0%9F%9B%92", "🛒"), ("a+b", "a+b"), ("a%20b", "a b"),
    ("100%25", "100%"), ("%252F", "%2F"), ("a%3Fb%23c", "a?b#c"), ("a:b@c;d=e", "a:b@c;d=e"), ("%00", "\u{0}"),
    ("recommendations", "recommendations"),
  ])
  func anIdIsDecodedOnceAndAfterThePathIsSplit(encoded: String, id: String) async throws {
    let daemon = PlayedDaemon()
    try await withServer(daemon) { client in
      #expect(await client.get("/v1/users/\(encoded)").status == 200)
      #expect(await client.get("/v1/users/\(encoded)/recommendations?limit=1").status == 200)
      #expect(await client.get("/v1/items/\(encoded)/similar").status == 200)
      #expect(await client.send("DELETE", "/v1/users/\(encoded)").status == 204)
    }
    #expect(daemon.asked == ["user \(id)", "recommendations \(id) 1", "similar \(id) 20", "forget \(id)"])
  }

  @Test func anIdOf64KiBCanBeLookedUpWithEveryByteEncoded() async throws {
    let daemon = PlayedDaemon()
    try await withServer(daemon) { client in
      let encoded = String(repeating: "%C3%A9", count: 32 << 10)
      #expect(await client.get("/v1/users/\(encoded)").status == 200)
    }
    #expect(daemon.asked == ["user " + String(repeating: "é", count: 32 << 10)])
  }

  @Test(arguments: ["%", "%2", "%zz", "%ff", "%C3", "%ED%A0%80"])
  func aBrokenEncodingIsRefusedWithoutALookUp(encoded: String) async throws {
    let daemon = PlayedDaemon()
    try await withServer(daemon) { client in
      #expect(await client.get("/v1/users/x\(encoded)").status == 400)
    }
    #expect(daemon.asked.isEmpty)
  }

  @Test(arguments: [
    ("missing", 404, "There is no such user or item."), ("restoring", 503, "The daemon cannot answer this now."),
    ("broken", 500, "The daemon failed to answer; its log says why."), ("odd", 500, "The daemon failed to answer; its log says why."),
  ])
  func failuresAreProblemDetailsThatRepeatNothing(id: String, status: Int, detail: String) async throws {
    try await withServer { client in
      let answer = await client.get("/v1/users/\(id)")
      #expect(answer.status == status)
      #expect(answer.headers["content-type"] == "application/problem+json")
      let problem = try answer.json()
      #expect(problem["type"] as? String == "about:blank")
      #expect(problem["status"] as? Int == status)
      #expect(problem["detail"] as? String == detail)
      #expect(problem["title"] is String)
      #expect(problem.count == 4)
    }
  }

  @Test(arguments: [
    "/nothing-<script>", "/v1", "/v1/users", "/v1/users/", "/v1/users//recommendations", "/v1/users/u/", "/v2/model", "//", "/v1/users/u/x",
  ])
  func whatDoesNotExistIsNotFoundAndNotRepeated(path: String) async throws {
    try await withServer { client in
      let answer = await client.get(path)
      #expect(answer.status == 404)
      #expect(!answer.text.contains("script"))
    }
  }

  @Test func aWrongMethodIsToldWhichOnesThereAre() async throws {
    let daemon = PlayedDaemon()
    try await withServer(daemon) { client in
      let post = await client.send("POST", "/v1/users/u", body: "{}")
      #expect(post.status == 405)
      #expect(post.headers["allow"] == "DELETE, GET, HEAD")
      #expect(await client.send("DELETE", "/v1/model").headers["allow"] == "GET, HEAD")
    }
    #expect(daemon.asked.isEmpty)
  }

  @Test func headIsGetWithoutItsBody() async throws {
    try await withServer { client in
      let answer = await client.send("HEAD", "/healthz")
      #expect(answer.status == 200)
      #expect(answer.headers["content-length"] == "3")
      #expect(answer.body.isEmpty)
    }
  }

  @Test(arguments: ["0", "-1", "1001", "ten", "", "1e2", "99999999999999999999"])
  func aLimitOutOfRangeIsRefused(limit: String) async throws {
    let daemon = PlayedDaemon()
    try await withServer(daemon) { client in
      #expect(await client.get("/v1/items/i/similar?limit=\(limit)").status == 400)
      #expect(await client.get("/v1/users/u/recommendations?limit=\(limit)").status == 400)
    }
    #expect(daemon.asked.isEmpty)
  }

  @Test func filtersReachTheLookUpDecodedOnce() async throws {
    let daemon = PlayedDaemon()
    try await withServer(daemon) { client in
      for query in [
        "category=a%26b&category=c+d&exclude=x%2Fy&exclude=%25&limit=3", "fresh=true&explain=true", "fresh=false&explain=false", "", "&",
      ] {
        #expect(await client.get("/v1/users/u/recommendations?\(query)").status == 200, "\(query)")
      }
      #expect(await client.get("/v1/items/i/similar?category=c&exclude=x").status == 200)
    }
    #expect(
      daemon.asked == [
        #"recommendations u 3 of ["a&b", "c+d"] without ["x/y", "%"]"#, "recommendations u 20 explained fresh", "recommendations u 20",
        "recommendations u 20", "recommendations u 20", #"similar i 20 of ["c"] without ["x"]"#,
      ])
  }

  @Test(arguments: [
    ("categories=c", "unknown parameter; there are category, exclude, explain, fresh, limit"), ("fresh=yes", "'fresh' is true or false"),
    ("fresh", "'fresh' is true or false"), ("limit=1&limit=2", "'limit' stands more than once"), ("exclude=%zz", "percent-encoded"),
    ("%ff=1", "percent-encoded"),
  ])
  func aQueryThatCannotBeMeantIsRefused(query: String, detail: String) async throws {
    let daemon = PlayedDaemon()
    try await withServer(daemon) { client in
      let answer = await client.get("/v1/users/u/recommendations?\(query)")
      #expect(answer.status == 400)
      let told = try answer.json()["detail"] as? String
      #expect(told?.contains(detail) == true)
    }
    #expect(daemon.asked.isEmpty)
  }

  private static let json = "Content-Type: application/json"

  @Test func aSessionIsRanked() async throws {
    let daemon = PlayedDaemon()
    try await withServer(daemon) { client in
      let answer = await client.send("POST", "/v1/recommendations", headers: [Self.json], body: #"{"items":["a","b/c"]}"#)
      #expect(answer.status == 200)
      #expect(
        answer.text
          == #"{"items":[{"item":"next","nearest":[{"item":"of the session","score":0.5}],"score":2}],"model":3,"source":"fresh"}"#)
      let full = #"{"items":["a"],"limit":1000,"categories":["c","d"],"exclude":["é"]}"#
      #expect(await client.send("POST", "/v1/recommendations", headers: ["content-type: Application/JSON; charset=utf-8"], body: full).status == 200)
    }
    #expect(daemon.asked == [#"session ["a", "b/c"] 20"#, #"session ["a"] 1000 of ["c", "d"] without ["é"]"#])
  }

  @Test(arguments: [
    ("", "not a JSON object"), ("[]", "not a JSON object"), ("{", "not a JSON object"), ("{}", "'items' is a list of 1 to 1000"),
    (#"{"items":[]}"#, "'items' is a list of 1 to 1000"), (#"{"items":"a"}"#, "'items' is a list of strings"),
    (#"{"items":["a",1]}"#, "'items' is a list of strings"), (#"{"items":["a"],"limit":0}"#, "'limit' is a whole number"),
    (#"{"items":["a"],"limit":true}"#, "'limit' is a whole number"), (#"{"items":["a"],"limit":1.5}"#, "'limit' is a whole number"),
    (#"{"items":["a"],"limit":"5"}"#, "'limit' is a whole number"), (#"{"items":["a"],"limit":1001}"#, "'limit' is a whole number"),
    (#"{"items":["a"],"categories":{}}"#, "'categories' is a list of strings"), (#"{"items":["a"],"exclude":[null]}"#, "'exclude' is a list of strings"),
    (#"{"items":["a"],"category":["c"]}"#, "unknown member; there are categories, exclude, items, limit"),
    (#"{"items":["i"\#(String(repeating: #","i""#, count: 1000))]}"#, "'items' is a list of 1 to 1000"),
  ])
  func aSessionThatCannotBeMeantIsRefused(body: String, detail: String) async throws {
    let daemon = PlayedDaemon()
    try await withServer(daemon) { client in
      let answer = await client.send("POST", "/v1/recommendations", headers: [Self.json], body: body)
      #expect(answer.status == 400)
      let told = try answer.json()["detail"] as? String
      #expect(told?.contains(detail) == true, "\(answer.text)")
    }
    #expect(daemon.asked.isEmpty)
  }

  @Test func aSessionOfAnotherContentTypeIsRefused() async throws {
    let daemon = PlayedDaemon()
    try await withServer(daemon) { client in
      for headers in [[], ["Content-Type: text/plain"], ["Content-Type: application/x-www-form-urlencoded"]] {
        #expect(await client.send("POST", "/v1/recommendations", headers: headers, body: #"{"items":["a"]}"#).status == 415)
      }
    }
    #expect(daemon.asked.isEmpty)
  }

  @Test func everyAnswerCarriesTheSecurityHeaders() async throws {
    try await withServer { client in
      for path in ["/", "/healthz", "/status.json", "/metrics", "/v1/model", "/nothing"] {
        let headers = await client.get(path).headers
        #expect(headers["x-content-type-options"] == "nosniff")
        #expect(headers["x-frame-options"] == "DENY")
        #expect(headers["referrer-policy"] == "no-referrer")
        #expect(headers["cache-control"] == "no-store")
        #expect(headers["cross-origin-resource-policy"] == "same-origin")
        #expect(headers["content-security-policy"]?.contains("default-src 'none'") == true)
        #expect(headers["content-security-policy"]?.contains("frame-ancestors 'none'") == true)
        #expect(headers["server"] == nil)
      }
    }
  }
}

@Suite(.timeLimit(.minutes(2)))
struct AdminAccessTests {
  @Test func withATokenOnlyLivenessAndTheEmptyPageAreOpen() async throws {
    let daemon = PlayedDaemon()
    try await withServer(daemon, token: "s3cret-token") { client in
      for path in ["/healthz", "/"] { #expect(await client.get(path).status == 200) }
      for path in ["/readyz", "/metrics", "/status.json", "/openapi.yaml", "/v1/model", "/v1/users/u", "/nothing", "/v1/users/%ff"] {
        let answer = await client.get(path)
        #expect(answer.status == 401, "\(path)")
        #expect(answer.headers["www-authenticate"] == "Bearer")
        #expect(answer.headers["content-type"] == "application/problem+json")
      }
      #expect(await client.send("DELETE", "/v1/users/u").status == 401)
      #expect(daemon.asked.isEmpty)

      for scheme in ["Bearer", "bearer"] {
        #expect(await client.get("/v1/model", headers: ["Authorization: \(scheme) s3cret-token"]).status == 200)
      }
      // With a token the name by which the server is reached does not matter.
      #expect(await client.get("/v1/model", headers: ["Authorization: Bearer s3cret-token", "Host: shop.example"]).status == 200)
    }
  }

  @Test(arguments: [
    "Bearer", "Bearer ", "Bearer s3cret-toke", "Bearer s3cret-token2", "Bearer S3cret-token", "Basic s3cret-token", "s3cret-token",
    "Bearer  s3cret-token", "Bearer s3cret-tokens3cret-token",
  ])
  func aWrongTokenIsRefused(authorization: String) async throws {
    try await withServer(token: "s3cret-token") { client in
      #expect(await client.get("/v1/model", headers: ["Authorization: \(authorization)"]).status == 401)
    }
  }

  @Test func withoutATokenOnlyLoopbackNamesAreAnswered() async throws {
    let daemon = PlayedDaemon()
    try await withServer(daemon) { client in
      for host in ["127.0.0.1", "localhost:9464", "LOCALHOST", "[::1]:80", "127.9.9.9:1"] {
        #expect(await client.get("/v1/model", headers: ["Host: \(host)"]).status == 200, "\(host)")
      }
      for host in ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:9464", "10.0.0.1", ""] {
        let status = await client.get("/v1/model", headers: ["Host: \(host)"]).status
        #expect(status == 421, "\(host)")
      }
    }
    #expect(daemon.asked == Array(repeating: "model", count: 5))
  }

  @Test(arguments: ["0.0.0.0", "192.168.1.5", "::", "shop.example", "128.0.0.1", "127.0.0", "127.0.0.1.example"])
  func anyOtherAddressThanLoopbackRefusesToStartWithoutAToken(host: String) throws {
    let daemon = PlayedDaemon()
    let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
    for token in [nil, ""] {
      let error = #expect(throws: AdminError.self) {
        try AdminServer(configuration: AdminConfiguration(host: host, token: token), status: daemon, lookups: daemon, logger: logger)
      }
      #expect(error?.code == .tokenRequired)
    }
    _ = try AdminServer(configuration: AdminConfiguration(host: host, token: "t"), status: daemon, lookups: daemon, logger: logger)
  }

  @Test func theListenAddressIsRead() throws {
    for (text, host, port) in [("127.0.0.1:0", "127.0.0.1", 0), ("[::1]:9464", "::1", 9464), ("localhost:80", "localhost", 80)] {
      let configuration = try AdminConfiguration(listen: text)
      #expect(configuration.host == host)
      #expect(configuration.port == port)
      #expect(configuration.isLoopback)
    }
    for text in ["", "localhost", ":80", "::1:80", "localhost:", "localhost:65536", "localhost:-1", "[]:80", "[::1]"] {
      let error = #expect(throws: AdminError.self) { try AdminConfiguration(listen: text) }
      #expect(error?.code == .invalidAddress, "\(text)")
    }
  }
}

@Suite(.timeLimit(.minutes(2)))
struct AdminLimitsTests {
  private func limits(_ change: (inout AdminConfiguration.Limits) -> Void) -> AdminConfiguration.Limits {
    var limits = AdminConfiguration.Limits()
    change(&limits)
    return limits
  }

  @Test func aPathTooLongIsRefusedBeforeAnyLookUp() async throws {
    let daemon = PlayedDaemon()
    try await withServer(daemon, limits: limits { $0.uriBytes = 100 }) { client in
      #expect(await client.get("/v1/users/" + String(repeating: "x", count: 90)).status == 200)
      #expect(await client.get("/v1/users/" + String(repeating: "x", count: 91)).status == 414)
    }
    #expect(daemon.asked.count == 1)
  }

  @Test func headersTooLongOrTooManyEndTheConnection() async throws {
    try await withServer(limits: limits { $0.headerBytes = 2000; $0.headerCount = 10 }) { client in
      #expect(await client.get("/healthz", headers: ["X: " + String(repeating: "x", count: 1000)]).status == 200)
      #expect(await client.get("/healthz", headers: ["X: " + String(repeating: "x", count: 3000)]).status == 400)
      #expect(await client.get("/healthz", headers: (0..<20).map { "X-\($0): x" }).status == 400)
    }
  }

  @Test func aBodyTooLongIsRefusedWhenItIsAnnouncedAndCutOffWhenItIsNot() async throws {
    try await withServer(limits: limits { $0.bodyBytes = 1000; $0.requestTime = .seconds(3600) }) { client in
      #expect(await client.send("POST", "/healthz", body: String(repeating: "x", count: 1000)).status == 405)
      #expect(await client.send("POST", "/healthz", headers: ["Content-Length: 1001"]).status == 413)
      let head = "POST /healthz HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
      let chunk = "3e8\r\n" + String(repeating: "x", count: 1000) + "\r\n"
      #expect(await client.exchange([head, chunk, chunk]).isClosed)
    }
  }

  @Test func aBodyThatIsNotHTTPIsRefusedAsTheClientsFault() async throws {
    let daemon = PlayedDaemon()
    try await withServer(daemon) { client in
      let head = "POST /v1/recommendations HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
      let (received, isClosed) = await client.exchange([head, "no chunk\r\n"])
      #expect(isClosed)
      #expect(HTTPClient.parse(received).status == 400)
    }
    #expect(daemon.asked == [])
  }

  @Test func aRequestThatDoesNotArriveWholeInTimeEndsItsConnection() async throws {
    try await withServer(limits: limits { $0.requestTime = .milliseconds(300); $0.idleTime = .milliseconds(300) }) { client in
      async let silent = client.exchange([])
      async let halfHead = client.exchange(["GET /healthz HTTP/1.1\r\nHost: local"])
      async let halfBody = client.exchange(["POST /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nxx"])
      #expect(await silent.isClosed)
      #expect(await halfHead.isClosed)
      #expect(await halfBody.isClosed)
      // On a busy machine a client of its own may be too slow for it once.
      try await waitUntil("the next is answered") { await client.get("/healthz").status == 200 }
    }
  }

  @Test func aLookUpThatTakesTooLongIsGivenUp() async throws {
    try await withServer(limits: limits { $0.requestTime = .milliseconds(200) }) { client in
      let answer = await client.get("/v1/users/slow")
      #expect(answer.status == 503)
      let problem = try answer.json()
      #expect(problem["detail"] as? String == "The answer took too long.")
    }
  }

  @Test func nonsenseIsABadRequestAndTheServerGoesOn() async throws {
    try await withServer(limits: limits { $0.idleTime = .seconds(5) }) { client in
      for nonsense in ["\u{0}\u{1}\u{2}\r\n\r\n", "GET\r\n\r\n", "GET / HTTP/9.9\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
        let answer = HTTPClient.parse(await client.exchange([nonsense]).received)
        #expect(answer.status == 400 || answer.status == 0 || answer.status == 421)
      }
      #expect(await client.get("/healthz").status == 200)
    }
  }

  @Test func moreConnectionsThanAllowedWaitForTheirTurn() async throws {
    try await withServer(limits: limits { $0.connections = 2; $0.idleTime = .milliseconds(300) }) { client in
      // Two idle connections fill the server until they time out; the request behind them is answered then.
      async let first = client.exchange([])
      async let second = client.exchange([])
      let answer = await client.get("/healthz")
      #expect(await first.isClosed)
      #expect(await second.isClosed)
      #expect(answer.status == 200)
    }
  }

  @Test func oneConnectionServesSeveralRequests() async throws {
    try await withServer { client in
      let request = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n"
      let answers = await client.exchange([request + "\r\n", request + "\r\n", request + "Connection: close\r\n\r\n"])
      #expect(String(decoding: answers.received, as: UTF8.self).components(separatedBy: "HTTP/1.1 200 OK").count == 4)
    }
  }

  @Test func aPortInUseIsAnErrorOfTheRun() async throws {
    try await withServer { client in
      let daemon = PlayedDaemon()
      let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
      let second = try AdminServer(
        configuration: AdminConfiguration(port: client.port), status: daemon, lookups: daemon, logger: logger)
      await #expect(throws: (any Error).self) { try await second.run() }
    }
  }
}

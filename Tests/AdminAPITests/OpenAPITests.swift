import AdminAPI
import Foundation
import TestSupport
import Testing
import Yams

/// The OpenAPI document as it is served, against what the server does.
@Suite(.timeLimit(.minutes(2)))
struct OpenAPITests {
  private static let methods: Set = ["get", "post", "put", "patch", "delete"]

  private func document(_ client: HTTPClient) async throws -> JSON {
    let answer = await client.get("/openapi.yaml")
    #expect(answer.status == 200)
    #expect(answer.headers["content-type"] == "application/yaml")
    return try YAMLDecoder().decode(JSON.self, from: answer.text)
  }

  /// One path and method of the document.
  private struct Operation {
    var method: String
    var path: String
    var description: JSON
    /// Those of the path, too.
    var parameters: [JSON]

    /// The response that the document has for a status.
    func response(_ status: Int, in document: JSON) -> JSON? {
      let responses = description["responses"]
      return (responses?["\(status)"] ?? responses?["default"]).flatMap { document.resolved($0) }
    }
  }

  private func operations(_ document: JSON) throws -> [Operation] {
    try #require(document["paths"]?.members).flatMap { path, item in
      (item.members ?? [:]).filter { Self.methods.contains($0.key) }.map { method, operation in
        let parameters = (item["parameters"]?.elements ?? []) + (operation["parameters"]?.elements ?? [])
        return Operation(
          method: method.uppercased(), path: path, description: operation, parameters: parameters.compactMap { document.resolved($0) })
      }
    }
  }

  /// What the document has against an answer.
  private func errors(_ answer: Answer, to operation: Operation, _ document: JSON) -> [String] {
    guard let response = operation.response(answer.status, in: document) else { return ["\(answer.status) is not described"] }
    guard let content = response["content"]?.members else { return answer.body.isEmpty ? [] : ["a body is not described"] }
    let type = String((answer.headers["content-type"] ?? "").prefix { $0 != ";" })
    guard let schema = content[type]?["schema"] else { return ["a body of the type \(type) is not described"] }
    guard type.hasSuffix("json") else { return schema.errors(in: .string(answer.text), root: document) }
    guard let value = try? JSONDecoder().decode(JSON.self, from: answer.body) else { return ["no JSON"] }
    return schema.errors(in: value, root: document)
  }

  @Test func everyRouteIsInTheDocumentAndNoOther() async throws {
    try await withServer { client in
      let described = try operations(await document(client)).map { "\($0.method) \($0.path)" }
      #expect(described.sorted() == AdminServer.routes.map { "\($0.method) \($0.path)" }.sorted())
    }
  }

  @Test func everyOperationAnswersAsDescribed() async throws {
    try await withServer { client in
      let document = try await document(client)
      for operation in try operations(document) {
        let path = operation.path.replacing("{id}", with: "u1")
        let body = operation.description["requestBody"]?["content"]?["application/json"]
        var headers: [String] = []
        var text = ""
        if let body {
          let example = try #require(body["example"])
          #expect(body["schema"]?.errors(in: example, root: document) == [])
          text = String(decoding: try JSONEncoder().encode(example), as: UTF8.self)
          headers = ["Content-Type: application/json"]
        }
        let answer = await client.send(operation.method, path, headers: headers, body: text)
        let success = try #require(operation.description["responses"]?.members?.keys.first { $0.hasPrefix("2") })
        #expect(answer.status == Int(success), "\(operation.method) \(path): \(answer.text)")
        #expect(errors(answer, to: operation, document) == [], "\(operation.method) \(path): \(answer.text)")
      }
    }
  }

  @Test func everyParameterIsTakenAndAnotherOneIsNot() async throws {
    try await withServer { client in
      let document = try await document(client)
      var taken = 0
      for operation in try operations(document) {
        let names = operation.parameters.filter { $0["in"]?.text == "query" }.compactMap { $0["name"]?.text }
        guard !names.isEmpty else { continue }
        let path = operation.path.replacing("{id}", with: "i1")
        for name in names {
          let value = ["limit": "7", "fresh": "true", "explain": "true"][name] ?? "x"
          let answer = await client.get("\(path)?\(name)=\(value)")
          #expect(answer.status == 200, "\(path) \(name)")
          #expect(errors(answer, to: operation, document) == [], "\(path) \(name): \(answer.text)")
          taken += 1
        }
        let refused = await client.get("\(path)?other=1")
        #expect(refused.status == 400)
        #expect(errors(refused, to: operation, document) == [])
      }
      #expect(taken == 8)
    }
  }

  @Test func failuresAreAsDescribed() async throws {
    let daemon = PlayedDaemon()
    daemon.reasons = ["not yet"]
    try await withServer(daemon) { client in
      let document = try await document(client)
      let operations = try operations(document)
      let json = "Content-Type: application/json"
      for (method, path, template, headers, body, status) in [
        ("GET", "/readyz", "/readyz", [], "", 503), ("GET", "/v1/users/missing", "/v1/users/{id}", [], "", 404),
        ("GET", "/v1/users/restoring", "/v1/users/{id}", [], "", 503), ("GET", "/v1/users/broken", "/v1/users/{id}", [], "", 500),
        ("GET", "/v1/items/i/similar?limit=0", "/v1/items/{id}/similar", [], "", 400),
        ("POST", "/v1/recommendations", "/v1/recommendations", [json], "{}", 400),
        ("POST", "/v1/recommendations", "/v1/recommendations", [], "{}", 415),
        ("POST", "/v1/recommendations", "/v1/recommendations", [json, "Content-Length: 99999999"], "", 413),
        ("GET", "/v1/model", "/v1/model", ["Host: shop.example"], "", 421),
      ] as [(String, String, String, [String], String, Int)] {
        let answer = await client.send(method, path, headers: headers, body: body)
        let operation = try #require(operations.first { $0.method == method && $0.path == template })
        #expect(answer.status == status)
        #expect(errors(answer, to: operation, document) == [], "\(path): \(answer.text)")
      }
    }
    try await withServer(token: "t") { client in
      #expect(await client.get("/openapi.yaml").status == 401)
      #expect(await client.get("/openapi.yaml", headers: ["Authorization: Bearer t"]).status == 200)
    }
  }

  @Test func everyReferenceLeadsSomewhere() async throws {
    try await withServer { client in
      let document = try await document(client)
      func references(_ value: JSON) -> [JSON] {
        var found = (value.elements ?? []).flatMap(references)
        for (name, member) in value.members ?? [:] { found += name == "$ref" ? [member] : references(member) }
        return found
      }
      let found = references(document)
      #expect(found.count > 30)
      #expect(found.allSatisfy { document.target(of: $0) != nil })
    }
  }
}

extension JSON {
  /// A part of this document, or what it refers to.
  fileprivate func resolved(_ value: JSON) -> JSON? { value["$ref"].map { target(of: $0) } ?? value }
}

import Kernels

/// An immutable copy of the policy for ranking, and for the reference of the preference term: all item vectors as one matrix, so that
/// serving never runs the item tower.
public final class ModelSnapshot: Sendable {
  public let configuration: ModelConfiguration
  /// Rises with every snapshot of a learner, over restarts too.
  public let version: UInt64
  /// The item of each row; nil is a free row.
  public let owners: [ItemNumber?]
  /// v: (rows, d).
  let vectors: Matrix
  /// The same in 8 bits, for ranking.
  let quantized: QuantizedMatrix
  /// b: (1, rows); −∞ for a free row, which therefore is never ranked.
  let bias: Matrix
  /// See ``idShare(_:)``; empty for a reference.
  private let idShares: [Float]
  /// Empty for a reference.
  let neighborhood: Neighborhood
  /// The row of each item that the neighbourhood has counts of, by item number; −1 for the others.
  let countedRows: [Int32]
  let encoder: DenseParameters.Encoder
  /// All dense parameters, for the checkpoint of a reference.
  let denseBuffer: FloatBuffer

  init(
    version: UInt64, configuration: ModelConfiguration, owners: [ItemNumber?], vectors: Matrix, bias: Matrix, dense: DenseParameters,
    idShares: [Float] = [], neighborhood: Neighborhood = Neighborhood(capacity: 0), quantized: QuantizedMatrix? = nil
  ) {
    self.version = version
    self.configuration = configuration
    self.owners = owners
    self.vectors = vectors
    self.quantized = quantized ?? QuantizedMatrix(vectors)
    self.bias = bias
    self.idShares = idShares
    self.neighborhood = neighborhood
    countedRows = neighborhood.rows(of: owners)
    encoder = dense.encoder
    denseBuffer = dense.buffer
  }

  /// The same policy with another neighbourhood.
  func with(_ neighborhood: Neighborhood) -> ModelSnapshot { with(neighborhood, bias: bias) }

  /// The same policy, in whose lists only these rows may be.
  ///
  /// - Parameter allowed: by row; rows beyond it are not allowed.
  public func restricted(to allowed: [Bool]) -> ModelSnapshot {
    let bias = Matrix(rows: 1, columns: rowCount)
    for row in 0..<rowCount { bias[0, row] = row < allowed.count && allowed[row] ? self.bias[0, row] : -.infinity }
    return with(neighborhood, bias: bias)
  }

  private func with(_ neighborhood: Neighborhood, bias: Matrix) -> ModelSnapshot {
    ModelSnapshot(
      version: version, configuration: configuration, owners: owners, vectors: vectors, bias: bias,
      dense: DenseParameters(configuration, source: denseBuffer), idShares: idShares, neighborhood: neighborhood, quantized: quantized)
  }

  /// The rows, free ones included.
  public var rowCount: Int { owners.count }

  /// The numbers that are learned.
  public var parameterCount: Int { denseBuffer.count + rowCount * (configuration.hiddenSize + 1) }

  /// False when a parameter is NaN or infinite: such a snapshot is not published.
  public var isFinite: Bool {
    allFinite(vectors) && allFinite(Matrix(denseBuffer, rows: 1, columns: denseBuffer.count))
      && (0..<rowCount).allSatisfy { owners[$0] == nil || bias[0, $0].isFinite }
  }

  /// The cosine similarity of two rows' vectors, in −1 … 1.
  public func similarity(_ a: Int32, _ b: Int32) -> Float {
    let norms = (dot(vectors, Int(a), vectors, Int(a)) * dot(vectors, Int(b), vectors, Int(b))).squareRoot()
    return norms > 0 ? dot(vectors, Int(a), vectors, Int(b)) / norms : 0
  }

  /// How much of v = e + g is the learned ID embedding e and not the content g: ‖e‖ / (‖e‖ + ‖g‖), 1 for a model without content; nil for a
  /// reference.
  public func idShare(_ row: Int32) -> Float? { Int(row) < idShares.count ? idShares[Int(row)] : nil }

  /// The rows with the most similar vectors, best first, without the row itself.
  public func similar(to row: Int32, count: Int) -> [(row: Int32, similarity: Float)] {
    let all = (0..<Int32(rowCount)).filter { $0 != row && owners[Int($0)] != nil }.map { ($0, similarity(row, $0)) }
    return Array(all.sorted { $0.1 > $1.1 || ($0.1 == $1.1 && $0.0 < $1.0) }.prefix(count))
  }
}

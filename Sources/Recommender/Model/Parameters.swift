import Kernels

/// Views of one block of memory by the parameters' names. Parameters, gradients and the optimiser's moments have the same shape, so
/// the same structure names all of them.
struct DenseParameters: Sendable {
  struct Norm: Sendable {
    let gain: Matrix  // (1, d)
    let bias: Matrix  // (1, d)
  }
  struct Linear: Sendable {
    let weight: Matrix  // (out, in)
    let bias: Matrix  // (1, out)

    /// The layer of some of its outputs, sharing the memory.
    func outputs(_ range: Range<Int>) -> Linear { Linear(weight: weight.rows(range), bias: bias.columns(range)) }
  }
  struct Modality: Sendable {
    let projection: Linear  // (d, D)
    let missing: Matrix  // (1, d)
  }
  struct Expert: Sendable {
    let up: Linear  // (d, d)
    let down: Linear  // (d, d)
  }
  struct Layer: Sendable {
    let norm1: Norm
    let query: Linear  // (d, d)
    let keyValue: Linear  // (2d, d)
    let output: Linear  // (d, d)
    let norm2: Norm
    let up: Linear  // (inner, d)
    let down: Linear  // (d, inner)
  }
  struct Tower: Sendable {
    let modalities: [Modality]
    let attributesMissing: Matrix?  // (1, d)
    let norm: Norm?
    let router: Linear?  // (E, d)
    let experts: [Expert]
    let dense: Linear?  // (d, d), when there are no experts
  }
  struct Encoder: Sendable {
    let position: Matrix  // (L, d), row 0 the most recent
    let type: Matrix  // (types, d)
    let gapBefore: Matrix  // (32, d)
    let gapNext: Matrix  // (32, d)
    let layers: [Layer]
    let norm: Norm
  }

  struct Tensor: Sendable {
    let name: String
    let values: Matrix
    /// Weight decay and random initial values are for weights, not for gains and biases.
    let kind: Kind
  }
  enum Kind: Sendable { case weight, embedding, gain, bias }

  let buffer: FloatBuffer
  let tensors: [Tensor]
  let tower: Tower
  let encoder: Encoder

  /// All values as one row, for the optimiser.
  var all: Matrix { Matrix(buffer, rows: 1, columns: buffer.count) }

  /// - Parameter source: memory to view; new zeros when nil.
  init(_ configuration: ModelConfiguration, source: FloatBuffer? = nil) {
    let measured = source.map { Builder(buffer: $0) } ?? Self.measured(configuration)
    var builder = measured
    (tower, encoder) = builder.build(configuration)
    buffer = builder.buffer
    tensors = builder.tensors
  }

  private static func measured(_ configuration: ModelConfiguration) -> Builder {
    var sizing = Builder(buffer: nil)
    _ = sizing.build(configuration)
    return Builder(buffer: FloatBuffer(count: sizing.used))
  }

  private struct Builder {
    let buffer: FloatBuffer
    let isSizing: Bool
    var used = 0
    var tensors: [Tensor] = []

    init(buffer: FloatBuffer?) {
      isSizing = buffer == nil
      self.buffer = buffer ?? FloatBuffer(count: 0)
    }

    mutating func tensor(_ name: String, _ rows: Int, _ columns: Int, _ kind: Kind) -> Matrix {
      defer { used += rows * columns }
      if isSizing { return Matrix(buffer, rows: 0, columns: columns) }
      let values = Matrix(buffer, offset: used, rows: rows, columns: columns)
      tensors.append(Tensor(name: name, values: values, kind: kind))
      return values
    }

    mutating func linear(_ name: String, _ rows: Int, _ columns: Int, weight: String = ".weight", bias: String = ".bias") -> Linear {
      Linear(weight: tensor(name + weight, rows, columns, .weight), bias: tensor(name + bias, 1, rows, .bias))
    }

    mutating func norm(_ name: String, _ d: Int) -> Norm {
      Norm(gain: tensor(name + ".gain", 1, d, .gain), bias: tensor(name + ".bias", 1, d, .bias))
    }

    mutating func build(_ c: ModelConfiguration) -> (Tower, Encoder) {
      let d = c.hiddenSize
      let modalities = c.modalities.map { modality in
        Modality(
          projection: linear("item.modality.\(modality.name)", d, modality.dimension),
          missing: tensor("item.modality.\(modality.name).missing", 1, d, .embedding))
      }
      let tower = Tower(
        modalities: modalities,
        attributesMissing: c.usesAttributes ? tensor("item.attributes.missing", 1, d, .embedding) : nil,
        norm: c.usesContent ? norm("item.norm", d) : nil,
        router: c.usesContent && c.expertCount > 0 ? linear("item.router", c.expertCount, d) : nil,
        experts: c.usesContent
          ? (0..<c.expertCount).map { j in
            Expert(
              up: linear("item.expert.\(j)", d, d, weight: ".w1", bias: ".b1"),
              down: linear("item.expert.\(j)", d, d, weight: ".w2", bias: ".b2"))
          } : [],
        dense: c.usesContent && c.expertCount == 0 ? linear("item.dense", d, d) : nil)
      let encoder = Encoder(
        position: tensor("encoder.position", c.maximumSequenceLength, d, .embedding),
        type: tensor("encoder.type", c.interactionTypeCount, d, .embedding),
        gapBefore: tensor("encoder.gap_before", TimeGap.bucketCount, d, .embedding),
        gapNext: tensor("encoder.gap_next", TimeGap.bucketCount, d, .embedding),
        layers: (0..<c.layerCount).map { l in
          let name = "encoder.layer.\(l)"
          let norm1 = norm(name + ".norm1", d)
          // One tensor in the file, two products in the step: the last layer needs queries for fewer rows than keys and values.
          let weight = tensor(name + ".qkv.weight", 3 * d, d, .weight)
          let bias = tensor(name + ".qkv.bias", 1, 3 * d, .bias)
          return Layer(
            norm1: norm1,
            query: Linear(weight: isSizing ? weight : weight.rows(0..<d), bias: isSizing ? bias : bias.columns(0..<d)),
            keyValue: Linear(weight: isSizing ? weight : weight.rows(d..<3 * d), bias: isSizing ? bias : bias.columns(d..<3 * d)),
            output: linear(name + ".output", d, d), norm2: norm(name + ".norm2", d), up: linear(name + ".up", c.innerSize, d),
            down: linear(name + ".down", d, c.innerSize))
        },
        norm: norm("encoder.norm", d))
      return (tower, encoder)
    }
  }
}

/// Everything that is learned: the dense parameters and the three tables that grow with the catalogue.
final class Parameters {
  let configuration: ModelConfiguration
  let dense: DenseParameters
  /// e: (rows, d).
  private(set) var itemEmbedding: Matrix
  /// b: (rows, 1).
  private(set) var itemBias: Matrix
  /// (attributes, d).
  private(set) var attributeEmbedding: Matrix

  init(_ configuration: ModelConfiguration, itemCapacity: Int = 64, attributeCapacity: Int = 64) {
    self.configuration = configuration
    dense = DenseParameters(configuration)
    itemEmbedding = Matrix(rows: itemCapacity, columns: configuration.hiddenSize)
    itemBias = Matrix(rows: itemCapacity, columns: 1)
    attributeEmbedding = Matrix(rows: attributeCapacity, columns: configuration.hiddenSize)
  }

  /// Room for as many items and attributes; new rows are zero.
  func reserve(items: Int, attributes: Int) {
    itemEmbedding = itemEmbedding.grown(to: items)
    itemBias = itemBias.grown(to: items)
    attributeEmbedding = attributeEmbedding.grown(to: attributes)
  }

  /// Random first values: normal with 0.02 for embeddings, with 1/√(3·inputs) for weights; gains are 1.
  func initialize(using random: inout Xoshiro256) {
    for tensor in dense.tensors {
      switch tensor.kind {
      case .gain: tensor.values.buffer.fill(tensor.values, 1)
      case .bias: break
      case .embedding: tensor.values.fillNormal(0.02, using: &random)
      case .weight: tensor.values.fillNormal(1 / (3 * Float(tensor.values.columns)).squareRoot(), using: &random)
      }
    }
  }
}

extension Matrix {
  /// The same rows and more, the new ones zero; itself when there are enough.
  func grown(to rows: Int) -> Matrix {
    guard rows > self.rows else { return self }
    let capacity = Swift.max(rows, self.rows * 3 / 2)
    return Matrix(buffer.copy(count: capacity * columns), rows: capacity, columns: columns)
  }

  func fillNormal(_ deviation: Float, using random: inout Xoshiro256) {
    for i in 0..<rows {
      for j in 0..<columns { self[i, j] = deviation * random.nextNormal() }
    }
  }

  var copied: Matrix {
    let result = Matrix(rows: rows, columns: columns)
    copy(result, from: self)
    return result
  }
}

extension FloatBuffer {
  fileprivate func fill(_ view: Matrix, _ value: Float) {
    for i in 0..<view.rows {
      for j in 0..<view.columns { view[i, j] = value }
    }
  }
}

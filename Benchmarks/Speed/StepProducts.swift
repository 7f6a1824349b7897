import Kernels
@testable import Recommender

/// The matrix products of one training step by their shapes, without all that stands between them.
struct StepProducts {
  private struct Product {
    var m: Int
    var n: Int
    var k: Int
    var transposeA = false
    var transposeB = false
    var isAdded = false

    var operations: Int { 2 * m * n * k }
  }

  private var products: [Product] = []
  /// Multiplications and additions of the step's attention, which goes without oneDNN: only what causality leaves.
  private(set) var attentionOperations = 0
  private let buffers: [FloatBuffer]

  /// Multiplications and additions of all products.
  var operations: Int { products.reduce(0) { $0 + $1.operations } }

  /// - Parameter candidates: of the softmax; 0 when there is none.
  init(_ sequences: PackedSequences, _ model: ModelConfiguration, candidates: Int) {
    let (d, inner) = (model.hiddenSize, model.innerSize)
    let everyToken = sequences.allQueries
    let lengths = (0..<sequences.count).map(sequences.length)
    let lastOnly = PackedSequences(lengths: lengths, queryCounts: lengths.map { _ in 1 })
    for layer in 0..<model.layerCount {
      let isLast = layer == model.layerCount - 1
      // The policy forward and backward, and the reference forward at each sequence's last position.
      for (queries, isLearned) in [(isLast ? sequences : everyToken, true), (isLast ? lastOnly : everyToken, false)] {
        let rows = queries.queryCount
        // With one query for each sequence no token's key and value are projected, but the query and what it attends to.
        let isShort = queries.haveOneQueryEach
        for (count, outputs, inputs) in [
          (rows, d, d), (isShort ? rows : queries.tokenCount, 2 * d, d), (rows, d, d), (rows, inner, d), (rows, d, inner),
        ] {
          products.append(Product(m: count, n: outputs, k: inputs, transposeB: true))
          guard isLearned else { continue }
          products.append(Product(m: count, n: inputs, k: outputs))
          products.append(Product(m: outputs, n: inputs, k: count, transposeA: true, isAdded: true))
        }
        let pairs = (0..<queries.count).reduce(0) { sum, b in
          let (length, count) = (queries.length(b), queries.queries(b))
          return sum + count * (2 * length - count + 1) / 2
        }
        attentionOperations += pairs * d * (isLearned ? 12 : 4) * (isShort ? model.headCount : 1)
      }
    }
    let block = SoftmaxClasses.blockSize
    for start in stride(from: 0, to: candidates > 0 ? sequences.queryCount : 0, by: block) {
      let rows = min(block, sequences.queryCount - start)
      products.append(Product(m: rows, n: candidates, k: d, transposeB: true))
      products.append(Product(m: rows, n: d, k: candidates))
      products.append(Product(m: candidates, n: d, k: rows, transposeA: true, isAdded: true))
    }
    let sizes = [products.map { $0.m * $0.k }, products.map { $0.k * $0.n }, products.map { $0.m * $0.n }]
    buffers = sizes.map { FloatBuffer([Float](repeating: 1e-3, count: $0.max() ?? 0)) }
  }

  /// Computes them one after the other. The operands of all shapes share their memory, so that caches are as warm as they can be.
  func run() {
    for product in products {
      let a = product.transposeA ? (product.k, product.m) : (product.m, product.k)
      let b = product.transposeB ? (product.n, product.k) : (product.k, product.n)
      let c = Matrix(buffers[2], rows: product.m, columns: product.n)
      multiplyByLibrary(
        c, Matrix(buffers[0], rows: a.0, columns: a.1), Matrix(buffers[1], rows: b.0, columns: b.1), transposeA: product.transposeA,
        transposeB: product.transposeB, adding: product.isAdded ? c : nil)
    }
  }
}

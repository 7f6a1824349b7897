import Kernels
@testable import Recommender

private let batchSize = 128
private let maximumLength = 50
private let negatives = 4

/// `train`: steps of RoDPO on full-length sequences, and with cross-entropy at every position on real lengths; one core.
///
/// - Parameter beauty: the folder of the Beauty data set; nil is a synthetic set with its lengths.
func trainingBenchmarks(_ timer: Timer, _ report: Report, beauty: String?) throws {
  try measure(
    "train.full", TrainingData.full(sequences: 1024, length: maximumLength, itemCount: 12_000), crossEntropyWeight: 0, timer, report,
    fraction: "train.gemm_fraction")
  let real =
    try beauty.map { try TrainingData.beauty($0, maximumLength: maximumLength) }
    ?? TrainingData.lengths("Benchmarks/beauty_lengths.tsv", itemCount: 12_101, maximumLength: maximumLength)
  // As the daemon does by default, and with the products that PyTorch has.
  try measure("train.real", real, crossEntropyWeight: 1, precision: .fastest, timer, report)
  try measure("train.real.float32", real, crossEntropyWeight: 1, timer, report, fraction: "train.real.float32.gemm_fraction")
}

/// - Parameter fraction: the name of the step's arithmetic rate over that of its products alone, computed by sgemm.
private func measure(
  _ name: String, _ data: TrainingData, crossEntropyWeight: Float, precision: SoftmaxPrecision = .float32, _ timer: Timer, _ report: Report,
  fraction: String? = nil
) throws {
  let run = TrainingRun(data, batchSize: batchSize, negatives: negatives, crossEntropyWeight: crossEntropyWeight, precision: precision)
  let steps = 8
  let batches = (0..<steps).flatMap { _ in run.nextBatch() }
  let candidates = crossEntropyWeight > 0 ? data.itemCount : 0
  // Only what is timed.
  let products = fraction == nil ? [] : batches.map { StepProducts($0.input.sequences, run.model, candidates: candidates) }
  let operations = products.reduce(0) { $0 + $1.operations + $1.attentionOperations } / steps
  let productOperations = products.reduce(0) { $0 + $1.operations }
  let step = Timer.Work(units: Double(batchSize)) { try run.step() }
  let productsAlone = Timer.Work(units: Double(productOperations)) { products.forEach { $0.run() } }
  let results = try timer.interleaved(fraction == nil ? [step] : [step, productsAlone])
  try run.checkProgress()
  report.add("\(name).sequences_per_second", results[0], unit: "sequences/s")
  guard let fraction else { return }
  report.add("\(name).sgemm_gflops", results[1], unit: "GFLOP/s", scale: 1e-9)
  report.add(fraction, results[0].ratio(to: results[1]) * Double(operations) / Double(batchSize), unit: "of sgemm")
}

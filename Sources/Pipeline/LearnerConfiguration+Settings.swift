import Kernels
public import Recommender
public import Settings

extension LearnerConfiguration {
  /// The learner as it is configured.
  ///
  /// - Parameters:
  ///   - typeWeights: by the codes of the store, or of a history's type names.
  ///   - modalities: the feature vectors that the catalogue has; those of `model.modalities` when nil.
  public init(_ settings: Settings, typeWeights: [Float], modalities: [String: Int]? = nil) {
    let model = settings.model
    let objective = settings.objective
    let learner = settings.learner
    self.init(
      model: ModelConfiguration(
        hiddenSize: model.hiddenSize, layerCount: model.layerCount, headCount: model.headCount, innerSize: model.innerSize,
        maximumSequenceLength: model.maximumSequenceLength, expertCount: model.experts, expertsPerItem: model.expertsPerItem,
        modalities: (modalities ?? model.modalities).sorted { $0.key < $1.key }
          .map { ModelConfiguration.Modality(name: $0.key, dimension: $0.value) },
        neighbourCount: model.neighbours, contentNeighbourCount: model.contentNeighbours),
      objective: ObjectiveConfiguration(
        negatives: NegativeSampling(objective.negatives), negativesPerTarget: objective.negativesPerTarget,
        rankTemperature: Float(objective.poolTemperature), form: PreferenceForm(objective.lossForm), beta: Float(objective.beta),
        preferenceWeight: Float(objective.preferenceWeight), crossEntropyWeight: Float(objective.crossEntropyWeight),
        loadBalancingWeight: Float(model.loadBalancingWeight), fullSoftmaxMaximumItems: objective.fullSoftmaxMaxItems,
        sampledSoftmaxNegatives: objective.sampledSoftmaxNegatives, softmaxPrecision: SoftmaxPrecision(objective.softmaxPrecision)),
      optimizer: OptimizerConfiguration(
        learningRate: Float(learner.learningRate), weightDecay: Float(learner.weightDecay), gradientClip: Float(learner.gradientClip),
        dropout: Float(model.dropout)),
      batchSize: learner.batchSize, recentRatio: learner.recentRatio, reservoirRatio: learner.reservoirRatio,
      reservoirSize: learner.reservoirSize, replayTargets: learner.replayTargets,
      referenceRefreshStrides: learner.referenceRefreshStrides, poolSize: settings.pool.size, typeWeights: typeWeights,
      recommendsSeen: settings.rules.excludeTypes != nil, threads: learner.threads, seed: UInt64(learner.seed))
  }
}

extension NegativeSampling {
  init(_ negatives: Settings.Negatives) {
    switch negatives {
    case .stochastic: self = .stochastic
    case .hard: self = .hard
    case .uniform: self = .uniform
    case .none: self = .none
    }
  }
}

extension PreferenceForm {
  init(_ form: Settings.LossForm) {
    switch form {
    case .pairwise: self = .pairwise
    case .softmax: self = .softmax
    }
  }
}

extension SoftmaxPrecision {
  init(_ precision: Settings.SoftmaxPrecision) {
    switch precision {
    case .auto: self = .fastest
    case .bfloat16: self = .bfloat16
    case .float32: self = .float32
    }
  }
}

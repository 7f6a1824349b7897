import StateStore

// The store's class has the name of its module, so types of the module that other modules have too can't be qualified: they get names here.
typealias StoredInteraction = Interaction
typealias StoredExample = TrainingExample
typealias StoredItemDescription = ItemDescription
public typealias StoredItemNumber = ItemNumber

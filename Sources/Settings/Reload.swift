/// What differs between the running configuration and one read anew.
public struct SettingsChanges: Sendable {
  /// A setting with its old and new value as text, secrets redacted.
  public struct Change: Sendable, Equatable, CustomStringConvertible {
    public var key: String
    public var old: String
    public var new: String

    public var description: String { "\(key): \(old) -> \(new)" }
  }

  /// What may change at run time.
  public var accepted: [Change] = []
  /// What needs a restart and keeps its old value.
  public var refused: [Change] = []
  /// The running settings with the accepted changes in them.
  public var result: Settings

  /// - Parameters:
  ///   - old: the running settings.
  ///   - new: what was read anew.
  public init(from old: Settings, to new: Settings) {
    // Start from the new settings and put back what may not change, so that no setting can be forgotten.
    result = new
    for setting in SettingsSchema.settings where !setting.isEqual(old, new) {
      let change = Change(key: setting.key, old: setting.text(old), new: setting.text(new))
      if setting.isReloadable {
        accepted.append(change)
      } else {
        refused.append(change)
        setting.copy(old, &result)
      }
    }
    result.kafka.secretProperties = old.kafka.secretProperties
  }
}

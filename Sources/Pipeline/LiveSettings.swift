import Settings
import Synchronization

/// The settings in force: a reload swaps them, and each service looks at the start of its next round.
final class LiveSettings: Sendable {
  private let settings: Mutex<Settings>

  init(_ settings: Settings) { self.settings = Mutex(settings) }

  var current: Settings {
    get { settings.withLock { $0 } }
    set { settings.withLock { $0 = newValue } }
  }
}

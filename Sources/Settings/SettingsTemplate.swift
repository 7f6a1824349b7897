extension SettingsSchema {
  /// The configuration file with every key at its default, and a comment for each with what it does, what is allowed
  /// and whether a reload can change it.
  public static var template: String {
    var text = """
      # Configuration of rodpod. Every key is shown with its default; a key that is left out has it.
      # Any of them can be overridden by the environment (RODPOD_SECTION_KEY, as RODPOD_KAFKA_BOOTSTRAP_SERVERS), and that by
      # --set section.key=value. Check with: rodpod check-config --config FILE
      # Keys marked (reload) can be changed in the running daemon by SIGHUP; the others need a restart.

      """
    let defaults = Settings()
    var open: [String] = []
    for setting in settings {
      let path = setting.key.split(separator: ".").map(String.init)
      let section = Array(path.dropLast())
      for depth in section.indices where !open.starts(with: section.prefix(depth + 1)) {
        let indent = String(repeating: "  ", count: depth)
        let name = section.prefix(depth + 1).joined(separator: ".")
        text += "\n\(indent)# \(sections[name] ?? "")\n\(indent)\(section[depth]):\n"
      }
      open = section
      let indent = String(repeating: "  ", count: section.count)
      text += "\(indent)# \(setting.summary)\n"
      text += "\(indent)# Allowed: \(setting.allowed).\(setting.isReloadable ? " (reload)" : "")\n"
      text += "\(indent)\(path[path.count - 1]): \(setting.text(defaults))\n"
    }
    return text
  }
}

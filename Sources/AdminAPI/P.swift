/// Which rodpod this is.
public enum BuildInformation {
  /// The released version, as semantic versioning writes it.
  public static let version = "0.1.0"
}

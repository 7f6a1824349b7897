import Settings

let settingsTarget = FuzzTarget(
  seeds: {
    [
      SettingsSchema.template, "kafka:\n  bootstrap_servers: a:1,b:2\n  properties: {x.y: z, 'sasl.password': \"file:/none\"}\n",
      "events:\n  types: [{name: view, weight: 1}, {name: buy, weight: 3}]\nmodel:\n  modalities: {text: 3}\nrules:\n  exclude_types: [buy]\n",
    ].map { Array($0.utf8) }
  },
  feed: { bytes in _ = try? Settings.load(yaml: String(decoding: bytes, as: UTF8.self), name: "fuzz.yaml") })

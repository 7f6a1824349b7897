import Datasets
import TestSupport
import Testing

@Suite struct ItemTableTests {
  let folder: TemporaryFolder

  init() throws { folder = TemporaryFolder() }

  private func attributes(_ table: ItemTable, _ item: Int32) -> [String] {
    table.attributes(of: item).map { table.attributeIdentifiers[$0] }
  }

  @Test func `attributes are separated by bars, each kept once`() throws {
    let table = try ItemTable.read(try folder.write("item\ttitle\tattributes\na\tOne\tOPI|Nails | |OPI\nb\t\t\n"))
    #expect(table.identifiers[0] == "a")
    #expect(table.titles == ["One", ""])
    #expect(attributes(table, 0) == ["OPI", "Nails"])
    #expect(attributes(table, 1).isEmpty)
  }

  @Test func `brand and categories join, as columns or as JSON lists`() throws {
    let columns = try ItemTable.read(try folder.write("item,brand,categories\na,OPI,Makeup|Nails\n"))
    let json = try ItemTable.read(try folder.write(#"{"item":"a","categories":["Makeup","Nails"],"brand":"OPI","features":{"text":[1]}}"#))
    #expect(attributes(columns, 0) == ["OPI", "Makeup", "Nails"])
    #expect(attributes(json, 0) == ["OPI", "Makeup", "Nails"])
  }

  @Test func `the brand is told apart from the categories`() throws {
    let table = try ItemTable.read(
      try folder.write("item,brand,categories\na,OPI,Makeup|OPI|Nails\nb,,Nails\nc,\" | Two|More\",Nails\nd,,\n"))
    #expect((0..<4).map { table.brand(of: $0) } == ["OPI", nil, "Two", nil])
    #expect((0..<4).map { table.categories(of: $0) } == [["Makeup", "Nails"], ["Nails"], ["More", "Nails"], []])
  }

  @Test func `an item that comes twice is refused with its line`() throws {
    let error = #expect(throws: DatasetError.self) { try ItemTable.read(try folder.write("item,title\na,x\nb,y\na,z\n")) }
    #expect(error?.line == 4)
    #expect(error?.message == "item \"a\" comes twice")
  }

  @Test func `a real catalogue is read in full`() throws {
    let table = try ItemTable.read(fixture("movielens-small/movies.csv.gz"))
    #expect(table.count == 9125)
    #expect(table.titles[0] == "Toy Story (1995)")
    #expect(attributes(table, 0) == ["Adventure", "Animation", "Children", "Comedy", "Fantasy"])
    // "American President, The (1995)" is quoted in the file.
    #expect(table.identifiers.index(of: "11").map { table.titles[Int($0)] } == "American President, The (1995)")
    #expect(table.attributeIdentifiers.index(of: "(no genres listed)") == nil)
  }
}

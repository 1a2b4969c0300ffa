# frozen_string_literal: true

RSpec.describe "The example count.rb" do
  root = File.expand_path("../..", __dir__)

  def count(root, *arguments)
    IO.popen([RbConfig.ruby, File.join(root, "examples/ruby/count.rb"), *arguments, { err: %i[child out] }], &:read)
  end

  it "prints what the other languages' examples print, also with a server" do
    expected = File.read(File.join(root, "tests-c/expected_scrape.txt"))
    expect(count(root)).to eq expected
    expect(count(root, RedisServer.fresh_url)).to eq expected
  end

  it "ends with the engine's own words if it is used wrongly" do
    expect(count(root, "memory:?colour=red")).to start_with 'unknown option "colour"'
    expect($?.exitstatus).to eq 1
  end
end

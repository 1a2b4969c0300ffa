# frozen_string_literal: true

RSpec.describe "The documentation" do
  root = File.expand_path("../..", __dir__)
  pages = %w[README.md docs/ruby.md bindings-ruby/README.md]
  blocks = pages.flat_map { |page| File.read(File.join(root, page)).scan(/^```ruby\n(.*?)^```/m).map { |b| [page, *b] } }

  it "has examples in Ruby" do
    expect(blocks.size).to be >= 5
  end

  blocks.each.with_index do |(page, block), number|
    it "of #{page} runs as it stands (#{number})" do
      setting = <<~RUBY
        require "pytheus_backend"
        require #{File.join(__dir__, "support/prometheus_client_stand_in").dump}
        App = ->(_) { [200, {}, []] }
        def deliver; end # what the program itself does
        def use(middleware, **options) = middleware.new(App, **options)
        def run(app) = app.call({})
      RUBY
      output, status = run_ruby(setting + block.gsub("/dev/shm", @directory))
      expect(status).to be_success, output
    end
  end
end

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

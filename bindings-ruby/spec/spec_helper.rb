# frozen_string_literal: true

# The specs use the library that cargo built in this tree, unless PYTHEUS_BACKEND_RS_LIBRARY names another.
ENV["PYTHEUS_BACKEND_RS_LIBRARY"] ||= File.expand_path("../../target/release/libpytheus_backend_rs.so", __dir__)

require "logger"
require "stringio"
require "tmpdir"
require "pytheus_backend"
require_relative "support/processes"
require_relative "support/redis_server"

# Collects what the engine and the gem log during an example.
RSpec.shared_context "with a log" do
  let(:log) { StringIO.new }

  before { PytheusBackend.logger = Logger.new(log, level: Logger::WARN) }
  after { PytheusBackend.logger = Logger.new($stderr, level: Logger::WARN) }
end

RSpec.configure do |config|
  config.disable_monkey_patching!
  config.order = :random
  config.include Processes

  config.around do |example|
    Dir.mktmpdir("pytheus-backend-spec-") do |directory|
      @directory = directory
      example.run
    end
  end
  config.after(:suite) { RedisServer.stop }
end

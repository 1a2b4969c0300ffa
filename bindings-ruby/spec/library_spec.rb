# frozen_string_literal: true

RSpec.describe "The library" do
  library = PytheusBackend.module_eval("Library", __FILE__, __LINE__) # a private constant
  root = File.expand_path("../..", __dir__)
  header = File.join(root, "include", "pytheus_backend_rs.h")

  # Compiles and runs a C program that includes the header; returns what it prints.
  def run_c(root, body)
    source = File.join(@directory, "program.c")
    program = File.join(@directory, "program")
    File.write(source, <<~C)
      #include <stdio.h>
      #include "pytheus_backend_rs.h"
      int main(void) {
      #{body}
        return 0;
      }
    C
    expect(system("cc", "-I", File.join(root, "include"), source, "-o", program)).to be true
    IO.popen([program], &:read)
  end

  it "has the structs of the header, field by field" do
    structs = library.constants.map { |name| library.const_get(name) }
                     .select { |constant| constant.is_a?(Class) && constant < FFI::Struct }
    expect(structs.size).to eq 4

    structs.each do |struct|
      name = struct.name.split("::").last
      fields = struct.offsets.map do |field, _|
        %(  printf("#{field} %zu %zu\\n", offsetof(#{name}, #{field}), sizeof(((#{name} *)0)->#{field}));\n)
      end
      output = run_c(root, %(  printf("size %zu\\n", sizeof(#{name}));\n#{fields.join}))
      expected = ["size #{struct.size}"] + struct.offsets.map do |field, offset|
        "#{field} #{offset} #{struct.instance_variable_get(:@layout)[field].size}"
      end
      expect(output.lines(chomp: true)).to eq(expected), name
    end
  end

  it "has the numbers of the header" do
    types = library::METRIC_TYPES.map { |name, number| ["METRIC_TYPE_#{name.upcase}", number] }
    lifetimes = library::METRIC_LIFETIMES.map { |name, number| ["METRIC_LIFETIME_#{name.upcase}", number] }
    formats = library::METRICS_FORMATS.map { |name, number| ["METRICS_FORMATS_#{name.upcase}", number] }
    numbers = types + lifetimes + formats + [["BACKEND_ABI_VERSION", library::ABI_VERSION]]
    output = run_c(root, numbers.map { |name, _| %(  printf("%d\\n", (int)#{name});\n) }.join)
    expect(numbers.map(&:first).zip(output.lines.map(&:to_i))).to eq numbers
  end

  it "has an exception for each status of the header" do
    statuses = File.read(header).scan(/BACKEND_STATUS_(\w+) = (\d+),/).reject { |name, _| name == "OK" }
    expect(statuses.size).to be >= 10
    statuses.each do |name, number|
      words = name.split("_").map(&:capitalize).join
      expect(PytheusBackend.error_class(number.to_i).name).to eq "PytheusBackend::#{words}Error"
    end
  end

  it "is named, with the way out, when it cannot be loaded" do
    output, status = run_ruby('require "pytheus_backend"', "PYTHEUS_BACKEND_RS_LIBRARY" => "/nowhere/library.so")
    expect(status).not_to be_success
    expect(output).to match(%r{cannot load .* /nowhere/library\.so: install .* PYTHEUS_BACKEND_RS_LIBRARY})
  end

  # Loads the gem with a library that has these numbers and nothing else; returns what the program prints.
  def load_with_other_library(abi_version, version)
    source = File.join(@directory, "other.c")
    other = File.join(@directory, "other.so")
    File.write(source, <<~C)
      unsigned backend_abi_version(void) { return #{abi_version}; }
      const char *backend_version(void) { return "#{version}"; }
    C
    expect(system("cc", "-shared", "-fPIC", source, "-o", other)).to be true
    output, status = run_ruby('require "pytheus_backend"', "PYTHEUS_BACKEND_RS_LIBRARY" => other)
    expect(status).not_to be_success
    output
  end

  it "is refused with both numbers if it has another binary interface" do
    output = load_with_other_library(99, PytheusBackend::VERSION)
    expect(output).to match(/has binary interface 99, but this version of the gem needs #{library::ABI_VERSION}/)
  end

  it "is refused with both versions if it is older than the gem" do
    output = load_with_other_library(library::ABI_VERSION, "0.0.9")
    expect(output).to match(/has version 0\.0\.9, but this gem needs version #{PytheusBackend::VERSION} or newer/)
  end

  it "is used by the gem as it is built and installed" do
    gem = File.join(@directory, "pytheus_backend.gem")
    home = File.join(@directory, "gems")
    Dir.chdir(File.join(root, "bindings-ruby")) do
      expect(system("gem", "build", "--silent", "--output", gem, "pytheus_backend.gemspec")).to be true
    end
    environment = { "GEM_HOME" => home, "GEM_PATH" => [home, *Gem.path].join(":") }
    expect(system(environment, "gem", "install", "--silent", "--local", "--no-document", gem)).to be true
    code = 'gem "pytheus_backend"; require "pytheus_backend"; puts $LOADED_FEATURES.grep(/pytheus_backend/)'
    output = IO.popen(environment, [RbConfig.ruby, "-e", code], &:read)
    expect(output.lines(chomp: true)).to include("#{home}/gems/pytheus_backend-#{PytheusBackend::VERSION}/lib/" \
                                                 "pytheus_backend/rack/exporter.rb")
    expect(output.lines.size).to be >= 10
  end

  it "is found by its soname where the dynamic linker looks" do
    File.symlink(ENV.fetch("PYTHEUS_BACKEND_RS_LIBRARY"), File.join(@directory, library::SONAME))
    output, status = run_ruby('require "pytheus_backend"; puts PytheusBackend.open.render.content_type',
                              "PYTHEUS_BACKEND_RS_LIBRARY" => nil, "LD_LIBRARY_PATH" => @directory)
    expect(output).to start_with "text/plain; version=0.0.4"
    expect(status).to be_success
  end
end

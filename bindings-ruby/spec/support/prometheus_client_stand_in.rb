# frozen_string_literal: true

# A stand-in for the prometheus-client gem, for machines where the gem is not installed. It makes the calls that
# the gem's documentation of data stores describes, with the same labels in the same order. It has no validation,
# no registry and no text format. `make test-ruby-client` runs the gem's own specs.
module Prometheus
  module Client
    Config = Struct.new(:data_store)

    def self.config
      @config ||= Config.new
    end

    class Metric
      attr_reader :name, :docstring, :labels

      def initialize(name, docstring:, labels: [], preset_labels: {}, store_settings: {})
        @name = name
        @docstring = docstring
        @labels = labels
        @preset_labels = preset_labels
        @store = Client.config.data_store.for_metric(name, metric_type: type, metric_settings: store_settings)
        init_label_set({}) if labels.empty?
      end

      def init_label_set(labels)
        @store.set(labels: label_set(labels), val: 0)
      end

      def get(labels: {})
        @store.get(labels: label_set(labels))
      end

      def values
        @store.all_values
      end

      private

      def label_set(labels)
        @preset_labels.merge(labels).transform_values(&:to_s)
      end
    end

    class Counter < Metric
      def type = :counter

      def increment(by: 1, labels: {})
        @store.increment(labels: label_set(labels), by: by)
      end
    end

    class Gauge < Counter
      def type = :gauge

      def set(value, labels: {})
        @store.set(labels: label_set(labels), val: value)
      end
    end

    class Histogram < Metric
      attr_reader :buckets

      def initialize(name, buckets:, **others)
        @buckets = buckets
        super(name, **others)
      end

      def type = :histogram

      def init_label_set(labels)
        @store.synchronize { numbers.each { |le| @store.set(labels: label_set(labels).merge(le: le), val: 0) } }
      end

      def observe(value, labels: {})
        bucket = (buckets.find { |bound| value <= bound } || "+Inf").to_s
        @store.synchronize do
          @store.increment(labels: label_set(labels).merge(le: bucket), by: 1)
          @store.increment(labels: label_set(labels).merge(le: "sum"), by: value)
        end
      end

      def get(labels: {})
        numbers = self.numbers
        counted = @store.synchronize do
          numbers.to_h { |le| [le, @store.get(labels: label_set(labels).merge(le: le))] }
        end
        cumulated(counted)
      end

      def values
        series = Hash.new { |all, labels| all[labels] = {} }
        @store.all_values.each { |labels, value| series[labels.reject { |name,| name == :le }][labels[:le]] = value }
        series.transform_values { |counted| cumulated(counted) }
      end

      protected

      def numbers
        buckets.map(&:to_s) + ["+Inf", "sum"]
      end

      private

      def cumulated(counted)
        total = 0
        counted.to_h { |le, value| [le, le == "sum" ? value : total += value] }
      end
    end

    class Summary < Metric
      def type = :summary

      def init_label_set(labels)
        @store.synchronize do
          %w[count sum].each { |number| @store.set(labels: label_set(labels).merge(quantile: number), val: 0) }
        end
      end

      def observe(value, labels: {})
        @store.synchronize do
          @store.increment(labels: label_set(labels).merge(quantile: "count"), by: 1)
          @store.increment(labels: label_set(labels).merge(quantile: "sum"), by: value)
        end
      end

      def get(labels: {})
        @store.synchronize do
          %w[count sum].to_h { |number| [number, @store.get(labels: label_set(labels).merge(quantile: number))] }
        end
      end
    end
  end
end

// Kafka with franz-go, unmodified: franz BOOTSTRAP NAME. Prints "ok PATTERN" for each pattern.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

const limit = 90 * time.Second

var bootstrap, name string

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func check(is bool, what string, words ...any) {
	if !is {
		must(fmt.Errorf(what, words...))
	}
}

func client(options ...kgo.Opt) *kgo.Client {
	made, err := kgo.NewClient(append(options, kgo.SeedBrokers(bootstrap), kgo.ClientID(name))...)
	must(err)
	return made
}

func topic(ctx context.Context, admin *kadm.Client, suffix string, partitions int32) string {
	made := name + "-" + suffix
	answer, err := admin.CreateTopic(ctx, partitions, 1, nil, made)
	must(err)
	must(answer.Err)
	return made
}

// read polls until as many records came.
func read(ctx context.Context, cl *kgo.Client, wanted int) []*kgo.Record {
	var got []*kgo.Record
	for len(got) < wanted {
		fetches := cl.PollFetches(ctx)
		for _, fault := range fetches.Errors() {
			must(fault.Err)
		}
		got = append(got, fetches.Records()...)
	}
	return got
}

func values(records []*kgo.Record) []string {
	var made []string
	for _, r := range records {
		made = append(made, string(r.Value))
	}
	slices.Sort(made)
	return made
}

// compressions: each codec, with keys, headers and times, through an idempotent producer.
func compressions(ctx context.Context, admin *kadm.Client) {
	codecs := map[string]kgo.CompressionCodec{"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(),
		"snappy": kgo.SnappyCompression(), "lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression()}
	for codec, how := range codecs {
		at := topic(ctx, admin, codec, 2)
		producer := client(kgo.DefaultProduceTopic(at), kgo.ProducerBatchCompression(how))
		when := time.UnixMilli(1700000000000)
		var wanted []string
		for i := range 100 {
			value := fmt.Sprintf("value %03d and some more to be made small", i)
			wanted = append(wanted, value)
			producer.Produce(ctx, &kgo.Record{Key: []byte(strconv.Itoa(i)), Value: []byte(value), Timestamp: when,
				Headers: []kgo.RecordHeader{{Key: "n", Value: []byte(strconv.Itoa(i))}}},
				func(_ *kgo.Record, err error) { must(err) })
		}
		must(producer.Flush(ctx))
		producer.Close()
		consumer := client(kgo.ConsumeTopics(at), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
		got := read(ctx, consumer, 100)
		consumer.Close()
		check(slices.Equal(values(got), wanted), "%s: other values", codec)
		for _, r := range got {
			check(len(r.Headers) == 1 && string(r.Headers[0].Value) == string(r.Key), "%s: headers", codec)
			check(r.Timestamp.Equal(when), "%s: time %v", codec, r.Timestamp)
		}
	}
}

// group: two members share a topic's partitions cooperatively; one leaves, and the other gets them all.
func group(ctx context.Context, admin *kadm.Client) {
	at, of := topic(ctx, admin, "group", 4), name+"-g"
	held := [2]chan int{make(chan int, 100), make(chan int, 100)}
	var members [2]*kgo.Client
	for i := range members {
		has := 0
		change := func(sign int) func(context.Context, *kgo.Client, map[string][]int32) {
			return func(_ context.Context, _ *kgo.Client, parts map[string][]int32) {
				has += sign * len(parts[at])
				held[i] <- has
			}
		}
		members[i] = client(kgo.ConsumerGroup(of), kgo.ConsumeTopics(at), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
			kgo.Balancers(kgo.CooperativeStickyBalancer()), kgo.HeartbeatInterval(300*time.Millisecond),
			kgo.OnPartitionsAssigned(change(1)), kgo.OnPartitionsRevoked(change(-1)), kgo.DisableAutoCommit())
		go func() {
			for ctx.Err() == nil && !members[i].PollFetches(ctx).IsClientClosed() {
			}
		}()
	}
	until := func(i, wanted int) {
		for {
			select {
			case has := <-held[i]:
				if has == wanted {
					return
				}
			case <-ctx.Done():
				must(fmt.Errorf("member %d never had %d partitions", i, wanted))
			}
		}
	}
	until(0, 2)
	until(1, 2)
	told, err := admin.DescribeGroups(ctx, of)
	must(err)
	check(told[of].State == "Stable" && len(told[of].Members) == 2, "group: %v", told[of])
	members[0].Close()
	until(1, 4)
	members[1].Close()
	commit := kadm.Offsets{}
	commit.AddOffset(at, 1, 7, -1)
	must(admin.CommitAllOffsets(ctx, of, commit))
	found, err := admin.FetchOffsets(ctx, of)
	must(err)
	offset, _ := found.Lookup(at, 1)
	check(offset.At == 7, "offset %d", offset.At)
	_, err = admin.DeleteGroups(ctx, of)
	must(err)
}

// transactions: read, process, write; every third is rolled back and done again.
func transactions(ctx context.Context, admin *kadm.Client) {
	in, out := topic(ctx, admin, "in", 1), topic(ctx, admin, "out", 1)
	producer := client(kgo.DefaultProduceTopic(in))
	for i := range 30 {
		must(producer.ProduceSync(ctx, kgo.StringRecord(strconv.Itoa(i))).FirstErr())
	}
	producer.Close()
	session, err := kgo.NewGroupTransactSession(kgo.SeedBrokers(bootstrap), kgo.TransactionalID(name+"-tx"),
		kgo.DefaultProduceTopic(out), kgo.ConsumerGroup(name+"-eos"), kgo.ConsumeTopics(in), kgo.RequireStableFetchOffsets(),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	must(err)
	done := map[string]bool{}
	for turn := 0; len(done) < 30; turn++ {
		fetches := session.PollRecords(ctx, 7)
		for _, fault := range fetches.Errors() {
			must(fault.Err)
		}
		must(session.Begin())
		records := fetches.Records()
		for _, r := range records {
			session.Produce(ctx, kgo.StringRecord("done "+string(r.Value)), func(_ *kgo.Record, err error) {
				if !errors.Is(err, kgo.ErrAborting) {
					must(err)
				}
			})
		}
		committed, err := session.End(ctx, kgo.TransactionEndTry(turn%3 != 1))
		must(err)
		for _, r := range records {
			if committed {
				check(!done[string(r.Value)], "%s twice", r.Value)
				done[string(r.Value)] = true
			}
		}
	}
	session.Close()
	reader := client(kgo.ConsumeTopics(out), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	got := values(read(ctx, reader, 30))
	reader.Close()
	check(len(slices.Compact(got)) == 30, "twice: %v", got)
}

func administration(ctx context.Context, admin *kadm.Client) {
	at := topic(ctx, admin, "admin", 1)
	set, err := admin.AlterTopicConfigs(ctx, []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "retention.ms", Value: kadm.StringPtr("5000")}}, at)
	must(err)
	must(set[0].Err)
	told, err := admin.DescribeTopicConfigs(ctx, at)
	must(err)
	check(slices.ContainsFunc(told[0].Configs, func(c kadm.Config) bool { return c.Key == "retention.ms" && c.MaybeValue() == "5000" }),
		"configs: %v", told[0].Configs)
	more, err := admin.UpdatePartitions(ctx, 3, at)
	must(err)
	must(more.Error())
	ends, err := admin.ListEndOffsets(ctx, at)
	must(err)
	check(len(ends[at]) == 3 && ends.Error() == nil, "ends: %v", ends)
	dirs, err := admin.DescribeAllLogDirs(ctx, nil)
	must(err)
	check(len(dirs) == 1, "log directories: %v", dirs)
	meta, err := admin.BrokerMetadata(ctx)
	must(err)
	check(len(meta.Brokers) == 1 && meta.Controller == meta.Brokers[0].NodeID, "brokers: %v", meta)
	versions, err := admin.ApiVersions(ctx)
	must(err)
	for _, v := range versions {
		must(v.Err)
	}
	gone, err := admin.DeleteTopics(ctx, at)
	must(err)
	must(gone.Error())
}

func main() {
	bootstrap, name = os.Args[1], os.Args[2]
	cl := client()
	admin := kadm.NewClient(cl)
	patterns := []struct {
		name string
		run  func(context.Context, *kadm.Client)
	}{{"compressions", compressions}, {"group", group}, {"transactions", transactions}, {"administration", administration}}
	for _, pattern := range patterns {
		ctx, cancel := context.WithTimeout(context.Background(), limit)
		pattern.run(ctx, admin)
		cancel()
		fmt.Println("ok " + pattern.name)
	}
	cl.Close()
}

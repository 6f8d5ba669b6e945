/* The same flows in SimGrid's S4U, to compare with. Needs libsimgrid; nothing else does.
 *
 *   simgrid_a2a SIZES.csv [--time]   an all-to-all as in a2a.c; --time prints only the seconds taken
 *   simgrid_a2a --cases < CASES      flows over any links, one case after another:
 *                                      case LINKS FLOWS, then the capacities (GB/s), then per flow
 *                                      start_ns bytes cap_GBps(0: none) link_count link...
 *                                    prints when each flow is delivered, ns, after 5 us of latency
 *
 * Plain max-min needs the settings below and one latency on all routes: with unequal latencies CM02
 * shares by 1/latency. A case runs in a process of its own, since an Engine is built once. */
#include <simgrid/s4u.hpp>

#include <chrono>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iostream>
#include <sstream>
#include <string>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>

namespace sg4 = simgrid::s4u;

struct Flow {
    double start_s, bytes, cap;
    std::vector<int> links;
    double finish_s;
};

static const double LATENCY_S = 5e-6;

static void engine_set(sg4::Engine &)
{
    for (const char *setting :
         {"network/model:CM02", "network/optim:Full", "network/TCP-gamma:0",
          "network/bandwidth-factor:1", "network/latency-factor:1", "network/weight-S:0",
          "network/crosstraffic:0", "surf/precision:1e-12", "maxmin/precision:1e-12"})
        sg4::Engine::set_config(setting);
}

/* Each flow has two hosts of its own, so that routes are free. */
static void run(std::vector<double> const &capacity_Bps, std::vector<Flow> &flows)
{
    int argc = 1;
    char name[] = "simgrid_a2a", *args[] = {name, nullptr}, **argv = args;
    sg4::Engine e(&argc, argv);
    engine_set(e);
    auto *zone = sg4::create_full_zone("zone");
    std::vector<sg4::Link *> links;
    std::vector<std::pair<sg4::Host *, sg4::Host *>> ends;

    for (size_t l = 0; l < capacity_Bps.size(); l++)
        links.push_back(zone->create_link("l" + std::to_string(l), capacity_Bps[l])->seal());
    auto *delay = zone->create_link("delay", 1e18)
                      ->set_latency(LATENCY_S)
                      ->set_sharing_policy(sg4::Link::SharingPolicy::FATPIPE)
                      ->seal();
    for (size_t i = 0; i < flows.size(); i++) {
        auto *src = zone->create_host("s" + std::to_string(i), 1e9)->seal();
        auto *dst = zone->create_host("d" + std::to_string(i), 1e9)->seal();
        std::vector<sg4::LinkInRoute> route{sg4::LinkInRoute(delay)};

        for (int l : flows[i].links)
            route.emplace_back(links[l]);
        if (flows[i].cap > 0) /* a link of its own caps a flow */
            route.emplace_back(zone->create_link("c" + std::to_string(i), flows[i].cap)->seal());
        zone->add_route(src->get_netpoint(), dst->get_netpoint(), nullptr, nullptr, route, false);
        ends.emplace_back(src, dst);
    }
    zone->seal();
    for (size_t i = 0; i < flows.size(); i++) {
        sg4::Actor::create("a" + std::to_string(i), ends[i].first, [&flows, &ends, i]() {
            Flow &f = flows[i];

            sg4::this_actor::sleep_until(f.start_s);
            auto comm = sg4::Comm::sendto_init(ends[i].first, ends[i].second);
            comm->set_payload_size(static_cast<uint64_t>(f.bytes));
            comm->wait();
            f.finish_s = sg4::Engine::get_clock();
        });
    }
    e.run();
}

/* The all-to-all shares 2N hosts and N*N routes; the activities are asynchronous, from one actor. */
static void a2a(std::vector<std::vector<double>> const &sizes, bool only_time)
{
    int argc = 1;
    char name[] = "simgrid_a2a", *args[] = {name, nullptr}, **argv = args;
    sg4::Engine e(&argc, argv);
    engine_set(e);
    auto *zone = sg4::create_full_zone("zone");
    size_t n = sizes.size();
    std::vector<sg4::Host *> hosts;
    std::vector<sg4::Link *> out, in;
    std::vector<Flow> flows;
    std::vector<std::pair<size_t, size_t>> ends;

    for (size_t i = 0; i < n; i++) {
        std::string id = std::to_string(i);

        hosts.push_back(zone->create_host("h" + id, 1e9)->seal());
        out.push_back(zone->create_link("o" + id, 50e9)->set_latency(LATENCY_S)->seal());
        in.push_back(zone->create_link("i" + id, 50e9)->seal());
    }
    for (size_t s = 0; s < n; s++)
        for (size_t d = 0; d < n; d++)
            if (s != d)
                zone->add_route(hosts[s]->get_netpoint(), hosts[d]->get_netpoint(), nullptr,
                                nullptr, {sg4::LinkInRoute(out[s]), sg4::LinkInRoute(in[d])},
                                false);
    zone->seal();
    for (size_t s = 0; s < n; s++) {
        for (size_t d = 0; d < n; d++) {
            if (s == d || sizes[s][d] <= 0)
                continue;
            flows.push_back({0, sizes[s][d], 0, {}, 0});
            ends.emplace_back(s, d);
        }
    }
    std::vector<sg4::CommPtr> comms;
    sg4::Actor::create("all", hosts[0], [&]() {
        for (size_t i = 0; i < flows.size(); i++) {
            auto comm = sg4::Comm::sendto_init(hosts[ends[i].first], hosts[ends[i].second]);

            comm->set_payload_size(static_cast<uint64_t>(flows[i].bytes));
            comm->start();
            comms.push_back(comm);
        }
        for (size_t i = 0; i < flows.size(); i++) {
            comms[i]->wait();
            flows[i].finish_s = comms[i]->get_finish_time();
        }
    });
    std::clock_t begin = std::clock();
    e.run();
    if (only_time) {
        std::printf("%.6f\n", double(std::clock() - begin) / CLOCKS_PER_SEC);
        return;
    }
    std::puts("src,dst,bytes,start_s,finish_s");
    for (size_t i = 0; i < flows.size(); i++)
        std::printf("%zu,%zu,%.17g,0,%.17g\n", ends[i].first, ends[i].second, flows[i].bytes,
                    flows[i].finish_s);
}

static std::vector<std::vector<double>> sizes_read(const char *path)
{
    std::ifstream file(path);
    std::vector<std::vector<double>> sizes;
    std::string line, field;

    while (std::getline(file, line)) {
        std::istringstream fields(line);

        sizes.emplace_back();
        while (std::getline(fields, field, ','))
            sizes.back().push_back(std::stod(field));
    }
    return sizes;
}

static int cases_run()
{
    std::string word;
    size_t link_count, flow_count;

    while (std::cin >> word >> link_count >> flow_count) {
        std::vector<double> capacity(link_count);
        std::vector<Flow> flows(flow_count);

        for (double &c : capacity) {
            std::cin >> c;
            c *= 1e9;
        }
        for (Flow &f : flows) {
            size_t links;

            std::cin >> f.start_s >> f.bytes >> f.cap >> links;
            f.start_s *= 1e-9;
            f.cap *= 1e9;
            f.links.resize(links);
            for (int &l : f.links)
                std::cin >> l;
        }
        std::fflush(stdout);
        pid_t child = fork();
        if (child == 0) {
            run(capacity, flows);
            for (Flow const &f : flows)
                std::printf("%.17g\n", f.finish_s * 1e9);
            std::fflush(stdout);
            _exit(0);
        }
        int status = 1;
        waitpid(child, &status, 0);
        if (status != 0)
            return 1;
    }
    return 0;
}

int main(int argc, char **argv)
{
    if (argc > 1 && !std::strcmp(argv[1], "--cases"))
        return cases_run();
    if (argc < 2)
        return 2;
    a2a(sizes_read(argv[1]), argc > 2 && !std::strcmp(argv[2], "--time"));
    return 0;
}

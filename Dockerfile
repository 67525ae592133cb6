# The same build as ./run, in two stages: what compiles does not ship.
FROM debian:12 AS build
WORKDIR /src
COPY . .
RUN bash -c '. tools/packages.sh && packages_ensure run' \
    && meson setup build --prefix=/usr --sysconfdir=/etc -Dtests=false -Dbench=false \
    && DESTDIR=/out meson install -C build --strip

FROM debian:12-slim
RUN apt-get update && apt-get install -y --no-install-recommends \
        libevent-core-2.1-7 libssl3 libwslay1 libinih1 libjansson4 libmicrohttpd12 libpcre2-8-0 libisal2 librdkafka1 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --home-dir /var/lib/mqgate mqgate \
    && install -d -o mqgate -g mqgate -m 0750 /var/lib/mqgate
COPY --from=build /out/ /
USER mqgate
VOLUME /var/lib/mqgate
EXPOSE 5672 5671 15672
# Inside a container loopback is nobody else's: listen on all addresses. guest stays for loopback only, so make
# an account of your own with mqgatectl before you publish the ports.
ENV MQGATE__LISTENERS__AMQP=0.0.0.0:5672 MQGATE__LISTENERS__HTTP=0.0.0.0:15672
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/sbin/mqgate", "--config", "/etc/mqgate/mqgate.conf"]

# pytrimode serve on the CPU. From the root of a clone: docker build -t pytrimode .
FROM python:3.12-slim AS build
RUN apt-get update && apt-get install -y --no-install-recommends build-essential git && rm -rf /var/lib/apt/lists/*
RUN python -m venv /opt/pytrimode
# llama.cpp's kernels for the CPU of the machine that builds; for others: --build-arg CMAKE_ARGS="-DGGML_NATIVE=OFF -DGGML_AVX2=ON ..."
ARG CMAKE_ARGS=""
COPY . /src
# With pip's cache: llama.cpp is needed to build and to run, and is compiled once. Nothing of it is in the image.
RUN /opt/pytrimode/bin/pip install "/src[server]"

FROM python:3.12-slim
RUN apt-get update && apt-get install -y --no-install-recommends libgomp1 && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 10001 pytrimode
COPY --from=build /opt/pytrimode /opt/pytrimode
USER pytrimode
EXPOSE 8080
HEALTHCHECK --start-period=120s CMD ["/opt/pytrimode/bin/python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8080/health')"]
# Everybody who reaches the port of the container: give it a key (PYTRIMODE_API_KEY).
ENTRYPOINT ["/opt/pytrimode/bin/pytrimode", "serve", "--host", "0.0.0.0"]

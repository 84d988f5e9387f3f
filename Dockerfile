# The node with its engines, on the CPU. Its configuration is config/node.yaml unless another is
# mounted in its place; everything it must not lose lies in /var/lib/dicom-node.
FROM python:3.11-slim

WORKDIR /opt/dicom-node
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY dicom_node dicom_node
COPY engines engines
COPY config config

# The number stays the same in every image, so that a volume keeps its owner.
RUN pip install --no-cache-dir --constraint constraints.txt ".[postgresql]" \
    && useradd --system --uid 11112 --home-dir /var/lib/dicom-node --create-home dicom-node \
    && ln -s /var/lib/dicom-node data

USER 11112
VOLUME /var/lib/dicom-node
EXPOSE 11112

HEALTHCHECK --interval=30s --timeout=20s --start-period=60s \
    CMD ["dicom-node", "status", "--config", "/opt/dicom-node/config/node.yaml"]
ENTRYPOINT ["dicom-node"]
CMD ["serve", "--config", "/opt/dicom-node/config/node.yaml"]

// What OHIF shows of results: loaded by the adapters that it loads them with.
//
//   node load.cjs IMAGES... -- RESULTS...
//
// prints a line of JSON for each result. Of a Segmentation the labels come with it, one byte a
// voxel, layer by layer (a layer more where segments overlap), slice by slice in the order of
// IMAGES. Of a report, the groups that the viewer lists; what it throws on is thrown here.

import { readFileSync } from 'node:fs';

import { adaptersSEG, adaptersSR } from '@cornerstonejs/adapters';
import { metaData } from '@cornerstonejs/core';
import { data } from 'dcmjs';

const { DicomMessage, DicomMetaDictionary } = data;
const SEGMENTATIONS = ['1.2.840.10008.5.1.4.1.1.66.4', '1.2.840.10008.5.1.4.1.1.66.7'];

function bufferOf(file) {
  const content = readFileSync(file);
  return content.buffer.slice(content.byteOffset, content.byteOffset + content.byteLength);
}

function naturalized(file) {
  const read = DicomMessage.readFile(bufferOf(file));
  const dataset = DicomMetaDictionary.naturalizeDataset(read.dict);
  dataset._meta = DicomMetaDictionary.namifyDataset(read.meta);
  return dataset;
}

const listed = value => (Array.isArray(value) ? value : value === undefined ? [] : [value]);

// ---------------------------------------------------------------- images

/** An imageId for each image, or each frame of a multi-frame one, as a viewer makes them. */
function imagesOf(files) {
  const images = new Map();
  for (const file of files) {
    const instance = naturalized(file);
    const groups = listed(instance.PerFrameFunctionalGroupsSequence);
    const frames = groups.length || 1;
    for (let number = 1; number <= frames; number++) {
      const imageId = `wadors:instances/${instance.SOPInstanceUID}/frames/${number}`;
      images.set(imageId, modulesOf(instance, groups[number - 1]));
    }
  }
  return images;
}

function modulesOf(instance, group) {
  const shared = listed(instance.SharedFunctionalGroupsSequence)[0] ?? {};
  const macro = name => listed(group?.[name] ?? shared[name])[0];
  const orientation = (macro('PlaneOrientationSequence') ?? instance).ImageOrientationPatient;
  const position = (macro('PlanePositionSequence') ?? instance).ImagePositionPatient;
  const spacing = (macro('PixelMeasuresSequence') ?? instance).PixelSpacing;
  const cosines = orientation?.map(Number);
  return {
    instance,
    generalImageModule: { sopInstanceUID: instance.SOPInstanceUID },
    generalSeriesModule: {
      seriesInstanceUID: instance.SeriesInstanceUID,
      modality: instance.Modality,
    },
    imagePlaneModule: {
      frameOfReferenceUID: instance.FrameOfReferenceUID,
      rows: instance.Rows,
      columns: instance.Columns,
      rowCosines: cosines?.slice(0, 3),
      columnCosines: cosines?.slice(3),
      imageOrientationPatient: cosines,
      imagePositionPatient: position?.map(Number),
      pixelSpacing: spacing?.map(Number),
      rowPixelSpacing: spacing && Number(spacing[0]),
      columnPixelSpacing: spacing && Number(spacing[1]),
    },
    imagePixelModule: {
      bitsAllocated: instance.BitsAllocated,
      bitsStored: instance.BitsStored,
      highBit: instance.HighBit,
      pixelRepresentation: instance.PixelRepresentation,
      photometricInterpretation: instance.PhotometricInterpretation,
      samplesPerPixel: instance.SamplesPerPixel,
    },
  };
}

// ---------------------------------------------------------------- segmentations

async function segmentation(file, dataset, images) {
  const series = listed(dataset.ReferencedSeriesSequence);
  if (series.length === 0) {
    throw new Error('no Referenced Series Sequence: OHIF does not list it');
  }
  const shown = [...images.values()][0].generalSeriesModule.seriesInstanceUID;
  if (series[0].SeriesInstanceUID !== shown) {
    throw new Error('its first referenced series is not the one that is shown');
  }
  const metadataProvider = { get: (type, imageId) => images.get(imageId)?.[type] };
  const loaded = await adaptersSEG.Cornerstone3D.Segmentation.createFromDICOMSegBuffer(
    [...images.keys()],
    bufferOf(file),
    { metadataProvider }
  );
  const layers = loaded.labelMapImages.map(layer => {
    const slices = listed(layer).map(image => {
      const scalars = image.voxelManager?.getScalarData() ?? image.getPixelData();
      return Buffer.from(Uint8Array.from(scalars));
    });
    return Buffer.concat(slices).toString('base64');
  });
  const segments = loaded.segMetadata.data.filter(Boolean).map(one => one.SegmentLabel);
  return { segments, overlapping: loaded.overlappingSegments, layers };
}

// ---------------------------------------------------------------- reports

const meaning = item => listed(item.ConceptNameCodeSequence)[0]?.CodeMeaning;
const code = item => listed(item.ConceptNameCodeSequence)[0]?.CodeValue;

/** OHIF finds what it lists by these words, and throws on an item that has none. */
function report(dataset, images) {
  if (code(dataset) !== '126000') {
    throw new Error(`no Imaging Measurement Report: ${code(dataset)}`);
  }
  const content = listed(dataset.ContentSequence);
  const named = (items, words) => items.filter(item => concept(item) === words);
  const [measurements] = named(content, 'Imaging Measurements');
  const library = named(content, 'Image Library');
  const groups = named(listed(measurements?.ContentSequence), 'Measurement Group').map(group => {
    const items = listed(group.ContentSequence);
    const uid = items.find(item => item.ValueType === 'UIDREF' && code(item) === '112040');
    if (!uid) {
      throw new Error('a Measurement Group without Tracking Unique Identifier');
    }
    return {
      trackingUid: uid.UID,
      tracking: named(items, 'Tracking Identifier').map(item => item.TextValue)[0],
      finding: named(items, 'Finding').map(item => listed(item.ConceptCodeSequence)[0].CodeMeaning)[0],
      numbers: items
        .filter(item => item.ValueType === 'NUM')
        .map(item => [concept(item), Number(listed(item.MeasuredValueSequence)[0].NumericValue)]),
      said: items
        .filter(item => item.ValueType === 'CODE')
        .map(item => [concept(item), listed(item.ConceptCodeSequence)[0].CodeMeaning]),
    };
  });
  const uids = Object.fromEntries(
    [...images].map(([imageId, modules]) => [modules.instance.SOPInstanceUID, imageId])
  );
  const drawn = adaptersSR.Cornerstone3D.MeasurementReport.generateToolState(
    dataset,
    uids,
    metaData
  );
  const tools = Object.entries(drawn).filter(([, annotations]) => annotations.length > 0);
  return {
    groups,
    libraryEntries: library.flatMap(one => listed(one.ContentSequence)).length,
    drawn: Object.fromEntries(tools.map(([tool, annotations]) => [tool, annotations.length])),
  };
}

function concept(item) {
  const words = meaning(item);
  if (words === undefined && item.RelationshipType !== 'SELECTED FROM') {
    throw new Error(`a content item of type ${item.ValueType} has no concept name`);
  }
  return words;
}

// ---------------------------------------------------------------- all of them

async function main(files, results) {
  const images = imagesOf(files);
  metaData.addProvider((type, imageId) => images.get(imageId)?.[type], 10000);
  for (const file of results) {
    const told = { file };
    try {
      const dataset = naturalized(file);
      const loaded = SEGMENTATIONS.includes(dataset.SOPClassUID)
        ? await segmentation(file, dataset, images)
        : report(dataset, images);
      Object.assign(told, loaded);
    } catch (error) {
      told.error = String(error.stack ?? error);
    }
    process.stdout.write(`${JSON.stringify(told)}\n`);
  }
}

// The adapters log what they cannot draw; the answer alone goes to stdout.
for (const level of ['log', 'info', 'warn']) {
  console[level] = console.error;
}
const given = process.argv.slice(2);
const at = given.indexOf('--');
main(given.slice(0, at), given.slice(at + 1));

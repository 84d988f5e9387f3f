import com.pixelmed.validate.DicomSRValidator;

/** What PixelMed's validator says of many reports: it takes half a minute to start, so once. */
public class Validate {
    /** Its stylesheets call themselves for each content item. */
    private static final long STACK_BYTES = 1L << 30;

    public static void main(String[] files) throws Exception {
        DicomSRValidator validator = new DicomSRValidator();
        Thread thread = new Thread(null, () -> {
            for (String file : files) {
                System.out.println("=== " + file);
                try {
                    // describe, match case of code meanings, check template IDs,
                    // ambiguous templates, order of content items
                    System.out.println(validator.validate(file, false, true, true, false, true));
                } catch (Exception | StackOverflowError error) {
                    System.out.println("Error: no validation: " + error);
                }
            }
        }, "validation", STACK_BYTES);
        thread.start();
        thread.join();
    }
}

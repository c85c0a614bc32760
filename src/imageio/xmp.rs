//! XMP, edited as text: what it says of the file is made true of the result.

use std::collections::BTreeMap;

/// How our part begins and ends.
const START: &str = "<rdf:Description rdf:about=\"\" xmlns:diffbir=\"urn:diffbir:\">";
const END: &str = "</rdf:Description>";
/// Bytes of what is edited.
const MOST: usize = 1 << 18;
const PACKET: &str = "<?xpacket begin=\"\u{feff}\" id=\"W5M0MpCehiHzreSzNTczkc9d\"?><x:xmpmeta \
    xmlns:x=\"adobe:ns:meta/\"><rdf:RDF xmlns:rdf=\"http://www.w3.org/1999/02/22-rdf-syntax-ns#\">\
    </rdf:RDF></x:xmpmeta><?xpacket end=\"w\"?>";

/// Whether it promises a gain map.
pub(super) fn has_gain_map(xmp: &[u8]) -> bool {
    let has = |name: &[u8]| xmp.windows(name.len()).any(|part| part == name);
    has(b"ns.adobe.com/hdr-gain-map") || has(b"HDRGainMap")
}

/// As text that can be edited: in UTF-8, and short enough for edits that take time in its square.
pub(super) fn text(xmp: &[u8]) -> Option<&str> {
    std::str::from_utf8(xmp)
        .ok()
        .filter(|xmp| xmp.len() <= MOST)
}

/// `xmp` without how an earlier result was made, and upright.
pub(super) fn settled(xmp: Vec<u8>) -> Vec<u8> {
    let Some(text) = text(&xmp) else {
        return xmp;
    };
    let mut text = text.to_owned();
    while let Some(start) = text.find(START) {
        let end = text[start..]
            .find(END)
            .map_or(text.len(), |end| start + end + END.len());
        text.replace_range(start..end, "");
    }
    set(&mut text, "tiff:Orientation", "1");
    text.into_bytes()
}

/// `xmp` with the size of the result.
pub(super) fn sized(xmp: &str, (height, width): (usize, usize)) -> String {
    let mut text = xmp.to_owned();
    let (height, width) = (height.to_string(), width.to_string());
    for (name, value) in [
        ("exif:PixelXDimension", &width),
        ("tiff:ImageWidth", &width),
        ("exif:PixelYDimension", &height),
        ("tiff:ImageLength", &height),
    ] {
        set(&mut text, name, value);
    }
    text
}

/// `xmp` with texts by their names.
pub(super) fn with(xmp: Option<String>, texts: &BTreeMap<String, String>) -> String {
    let mut ours = START.to_owned();
    for (name, text) in texts {
        let text = text.replace('&', "&amp;").replace('<', "&lt;");
        ours += &format!("<diffbir:{name}>{text}</diffbir:{name}>");
    }
    ours += END;
    let mut xmp = xmp.unwrap_or_else(|| PACKET.to_owned());
    if let Some(at) = xmp.rfind("</rdf:RDF>") {
        xmp.insert_str(at, &ours);
    }
    xmp
}

/// Leaves out where a picture was taken.
pub(super) fn strip_place(text: &mut String) {
    const NAME: &str = "exif:GPS";
    let mut from = 0;
    while let Some(at) = text[from..].find(NAME).map(|at| from + at) {
        let name = &text[at..];
        let name = &name[..name
            .find(|x: char| x != ':' && !x.is_alphanumeric())
            .unwrap_or(name.len())];
        let (name, behind) = (name.to_owned(), at + name.len());
        let element = text[..at].ends_with('<');
        let end = match element {
            true => {
                let close = format!("</{name}>");
                let end = text[behind..]
                    .find(&close)
                    .map(|end| behind + end + close.len());
                end.or_else(|| text[behind..].find("/>").map(|end| behind + end + 2))
            }
            false => value_of(text, behind).map(|value| value.end + 1),
        };
        match end {
            Some(end) => text.replace_range(at - usize::from(element)..end, ""),
            None => from = behind,
        }
    }
}

/// Sets a property where it is, as attribute or as element.
fn set(text: &mut String, name: &str, value: &str) {
    let mut from = 0;
    while let Some(at) = text[from..].find(name).map(|at| from + at) {
        let behind = at + name.len();
        from = behind;
        let place = match text[..at].ends_with('<') && text[behind..].starts_with('>') {
            true => text[behind..]
                .find("</")
                .map(|end| behind + 1..behind + end),
            false => value_of(text, behind),
        };
        if let Some(place) = place {
            from = place.start;
            text.replace_range(place, value);
        }
    }
}

/// Where the value of an attribute is whose name ends at `at`.
fn value_of(text: &str, at: usize) -> Option<std::ops::Range<usize>> {
    let rest = text[at..].trim_start().strip_prefix('=')?.trim_start();
    let quote = rest
        .chars()
        .next()
        .filter(|quote| matches!(quote, '"' | '\''))?;
    let start = text.len() - rest.len() + 1;
    let end = text[start..].find(quote)?;
    Some(start..start + end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn properties_are_set_and_places_left_out() {
        let xmp = "<rdf:Description exif:GPSLatitude=\"1\" tiff:Orientation='6' exif:A=\"2\">\
            <exif:GPSAltitude>3</exif:GPSAltitude><tiff:ImageWidth>9</tiff:ImageWidth></rdf:Description>";
        let mut text = String::from_utf8(settled(xmp.into())).unwrap();
        strip_place(&mut text);
        assert_eq!(
            sized(&text, (5, 7)),
            "<rdf:Description  tiff:Orientation='1' exif:A=\"2\"><tiff:ImageWidth>7</tiff:ImageWidth>\
            </rdf:Description>"
        );
    }

    #[test]
    fn how_it_was_made_is_replaced() {
        let texts = |text: &str| BTreeMap::from([("diffbir".to_owned(), text.to_owned())]);
        let once = with(None, &texts("{\"a\": \"<&>\"}"));
        assert!(once.contains("{\"a\": \"&lt;&amp;>\"}"));
        let again = with(String::from_utf8(settled(once.into())).ok(), &texts("b"));
        assert_eq!(again, with(None, &texts("b")));
    }
}
